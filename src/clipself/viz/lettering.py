"""Letters on pictures: one font, and words for what it cannot write."""

import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Final

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

FONT: Final = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""Latin with accents, Greek, Cyrillic, Arabic, Armenian, Georgian and signs; it comes with matplotlib."""


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font at a size in pixels."""
    return ImageFont.truetype(str(FONT), size)


def drawable(text: str) -> str:
    """A text in letters that the font has; others become their code points, so that names stay apart.

    "猫" becomes "U+732B", and a control character what it is: "U+001B".
    """
    known = _letters()
    written, unknown = "", False
    for letter in unicodedata.normalize("NFC", text):
        lacks = ord(letter) not in known or unicodedata.category(letter) in ("Cc", "Cf", "Cs")
        if not lacks:
            written += letter
        elif not unicodedata.combining(letter):
            written += f"·{ord(letter):04X}" if unknown else f"U+{ord(letter):04X}"
        unknown = lacks
    return written


def shorten(text: str, *, width: int, size: int) -> str:
    """A text in letters that can be drawn, cut off with dots where it would be wider than `width` pixels."""
    whole, letters = drawable(text), font(size)
    if letters.getlength(whole) <= width:
        return whole
    kept = whole
    while kept and letters.getlength(f"{kept}\u2026") > width:
        kept = kept[:-1]
    return f"{kept}\u2026"


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(str(FONT)).get_charmap())
