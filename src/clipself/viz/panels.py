"""Pictures in rows and columns with titles."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clipself.viz.lettering import font, shorten

MARGIN, TITLE, INK, PAPER = 8, 26, (34, 34, 34), (255, 255, 255)
LETTERS: Final = 14
"""Size of titles, in pixels."""
WIDEST: Final = 4
"""A picture takes at most this many times the height of its row in width: a long strip is made smaller."""
NARROWEST: Final = 60
"""Width of a column, in pixels, where a picture is narrower."""


def lay_out(rows: Sequence[Sequence[tuple[str, Image.Image]]], *, height: int = 280) -> Image.Image:
    """Puts titled pictures on white, every row to one height.

    Args:
        rows: For each row its (title, picture) columns.
        height: Of every picture, in pixels; of a picture more than `WIDEST` times as wide as high it is less.

    Raises:
        ValueError: There are no pictures.
    """
    if not rows or not all(rows):
        raise ValueError("there are no pictures to lay out")
    strips = []
    for row in rows:
        sized = [(title, _fit(picture, height)) for title, picture in row]
        widths = [max(picture.width, NARROWEST) for _, picture in sized]
        tallest = max(picture.height for _, picture in sized)
        strip = Image.new("RGB", (sum(widths) + MARGIN * (len(sized) + 1), tallest + TITLE + MARGIN), PAPER)
        pen, left = ImageDraw.Draw(strip), MARGIN
        for (title, picture), width in zip(sized, widths, strict=True):
            pen.text((left, 5), shorten(title, width=width, size=LETTERS), fill=INK, font=font(LETTERS))
            strip.paste(picture, (left, TITLE))
            left += width + MARGIN
        strips.append(strip)
    return stack(strips)


def stack(strips: Sequence[Image.Image]) -> Image.Image:
    """Pictures below one another on white."""
    sheet = Image.new("RGB", (max(strip.width for strip in strips), sum(strip.height for strip in strips)), PAPER)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def panel_size(picture: Image.Image, height: int) -> tuple[int, int]:
    """Width and height at which `lay_out` shows a picture in a row of a height."""
    scale = min(height / picture.height, WIDEST * height / picture.width)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def shrink(
    picture: Image.Image, values_HW: NDArray[np.integer], *, height: int
) -> tuple[Image.Image, NDArray[np.integer]]:
    """A picture and a map on it at the size at which they will be shown, so that giants are not drawn at their own.

    Args:
        picture: RGB picture.
        values_HW: Classes or segment ids at its size; those nearest to the new pixels are taken.
        height: Of the row; smaller pictures stay as they are.
    """
    width, height = panel_size(picture, height)
    if width >= picture.width:
        return picture, values_HW
    rows, cols = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip((height, width), values_HW.shape, strict=True)
    )
    return picture.resize((width, height), reducing_gap=3.0), values_HW[rows][:, cols]


def _fit(picture: Image.Image, height: int) -> Image.Image:
    return picture.convert("RGB").resize(panel_size(picture, height))
