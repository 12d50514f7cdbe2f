"""Panoptic maps over pictures: a colour and an outline for each segment, its name where it has room."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from clipself.viz.colours import class_colour
from clipself.viz.lettering import font, shorten
from clipself.viz.segments import segment_edges

LEAST_NAMED = 0.004
"""Segments below this share of the picture go without a name."""


def paint_segments(
    image: Image.Image,
    ids_HW: NDArray[np.integer],
    labels: Mapping[int, int],
    class_names: Sequence[str],
    *,
    opacity: float = 0.55,
) -> Image.Image:
    """Lays a panoptic map over its picture; void stays as it is, a little darker.

    Args:
        image: The picture below.
        ids_HW: Segment ids; 0 is void.
        labels: Segment id -> label.
        class_names: Name of each label, which also fixes its colour.
        opacity: Of the colours, in [0, 1].

    Raises:
        ValueError: Map and picture differ in size.
    """
    if ids_HW.shape != (image.height, image.width):
        raise ValueError(f"the map is {ids_HW.shape}, the picture {(image.height, image.width)}; resize the map first")
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    colours = np.zeros_like(pixels)
    for segment, label in labels.items():
        colours[ids_HW == segment] = class_colour(label)
    share = np.where(ids_HW == 0, 0.35, opacity)[..., None].astype(np.float32)
    mixed = pixels * (1 - share) + colours * share
    mixed[segment_edges(ids_HW)] = 255
    drawn = Image.fromarray(mixed.astype(np.uint8))
    pen, size = ImageDraw.Draw(drawn), max(11, image.height // 30)
    for segment, label in labels.items():
        mask = ids_HW == segment
        if mask.sum() >= LEAST_NAMED * mask.size:
            text = shorten(class_names[label].split(",")[0], width=max(drawn.width - 8, 40), size=size)
            _write(pen, text, _middle(mask), size=size, frame=drawn.size)
    return drawn


def _middle(mask_HW: NDArray[np.bool_]) -> tuple[int, int]:
    """The pixel `xy` deepest inside a mask."""
    depth = ndimage.distance_transform_edt(np.pad(mask_HW, 1))[1:-1, 1:-1]
    row, col = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(col), int(row)


def _write(pen: ImageDraw.ImageDraw, text: str, at: tuple[int, int], *, size: int, frame: tuple[int, int]) -> None:
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font(size))
    width, height = right - left, bottom - top
    x = min(max(2, at[0] - width // 2), max(2, frame[0] - int(width) - 2))
    y = min(max(2, at[1] - height // 2), max(2, frame[1] - int(height) - 4))
    pen.rectangle((x - 2, y, x + width + 2, y + height + 4), fill=(20, 20, 20))
    pen.text((x, y - top + 2), text, fill=(255, 255, 255), font=font(size))
