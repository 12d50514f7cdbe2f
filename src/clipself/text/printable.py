"""Names out of other people's files, made harmless for the terminal."""

import re
from typing import Final

CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for tab and new line, and the marks that turn the direction of writing."""


def name_bytes(text: str) -> bytes:
    """A text with names of files in it as UTF-8; what such a name has of other bytes stays those bytes."""
    return text.encode("utf-8", "surrogateescape")


def printable(text: str) -> str:
    r"""A text whose control characters are spelled out: the escape character becomes `\x1b`."""
    return CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)
