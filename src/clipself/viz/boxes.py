"""Boxes with names on a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

from clipself.viz.colours import text_on
from clipself.viz.lettering import font, shorten

NOVEL: Final = (214, 39, 40)
BASE: Final = (31, 119, 180)


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnBox:
    """One box to draw.

    Attributes:
        box: `xyxy` in pixels of the picture.
        text: Beside it.
        colour: RGB.
        mask: COCO run lengths of what is filled; None fills nothing.
    """

    box: tuple[float, float, float, float]
    text: str
    colour: tuple[int, int, int]
    mask: dict[str, Any] | None = None


def draw_boxes(image: Image.Image, boxes: Sequence[DrawnBox]) -> Image.Image:
    """A copy of the picture with boxes, the last of the list at the bottom.

    Args:
        image: Picture of any mode.
        boxes: Best first.
    """
    picture = image.convert("RGB")
    for drawn in reversed(boxes):
        if drawn.mask is not None:
            picture = _tint(picture, drawn.mask, drawn.colour)
    pen = ImageDraw.Draw(picture)
    unit = max(picture.size)
    line, size = max(2, unit // 300), max(11, unit // 50)
    for drawn in reversed(boxes):
        pen.rectangle(drawn.box, outline=drawn.colour, width=line)
    for drawn in reversed(boxes):
        text = shorten(drawn.text, width=max(picture.width - 6, 40), size=size)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font(size))
        width, height = right - left + 6, bottom - top + 6
        x = min(max(0, drawn.box[0]), max(0, picture.width - width))
        y = drawn.box[1] - height if drawn.box[1] >= height else drawn.box[1]
        pen.rectangle((x, y, x + width, y + height), fill=drawn.colour)
        pen.text((x + 3 - left, y + 3 - top), text, fill=text_on(drawn.colour), font=font(size))
    return picture


def _tint(picture: Image.Image, mask: dict[str, Any], colour: tuple[int, int, int]) -> Image.Image:
    from pycocotools import mask as coco_mask

    inside = coco_mask.decode(mask).astype(bool)
    pixels = np.asarray(picture, dtype=np.float32).copy()
    pixels[inside] = 0.55 * pixels[inside] + 0.45 * np.asarray(colour, dtype=np.float32)
    return Image.fromarray(pixels.astype(np.uint8))
