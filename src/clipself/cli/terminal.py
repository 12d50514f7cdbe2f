"""Words on the terminal: names out of other people's files cannot move its cursor, and log lines go where errors go."""

import logging
import re
import sys
from typing import Final

CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for tab and new line, and the marks that turn the direction of writing."""


def printable(text: str) -> str:
    r"""A text whose control characters are spelled out: the escape character becomes `\x1b`."""
    return CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


class TerminalHandler(logging.Handler):
    """Writes log lines to whatever `sys.stderr` is at the time, so that a redirected one gets them too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line."""
        print(printable(self.format(record)), file=sys.stderr)


def log_to_terminal() -> None:
    """Adds the handler, once."""
    root = logging.getLogger()
    if not any(isinstance(handler, TerminalHandler) for handler in root.handlers):
        root.addHandler(TerminalHandler())
