"""Label maps laid over pictures, with a legend."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from clipself.files import write_atomically
from clipself.viz.colours import class_colour
from clipself.viz.lettering import font, shorten
from clipself.viz.panels import INK, MARGIN, PAPER, lay_out, shrink


def draw_segments(image: Image.Image, labels_HW: Tensor, *, classes: int, opacity: float = 0.6) -> Image.Image:
    """The picture with every class in its colour and a line around every segment.

    Args:
        image: RGB picture.
        labels_HW: Index of each pixel's class, at the size of the picture; others than the classes stay dark.
        classes: How many there are.
        opacity: Of the colour.

    Raises:
        ValueError: The map has another size than the picture.
    """
    labels = labels_HW.cpu().numpy()
    if labels.shape != (image.height, image.width):
        raise ValueError(f"a map of {labels.shape} does not lie on a picture of {(image.height, image.width)}")
    inside = labels < classes
    palette = np.array([class_colour(index) for index in range(classes)], dtype=np.float32)
    colours = np.zeros((*labels.shape, 3), dtype=np.float32)
    colours[inside] = palette[labels[inside]]
    mixed = (1 - opacity) * np.asarray(image.convert("RGB"), dtype=np.float32) + opacity * colours
    mixed[segment_edges(labels)] = 255
    return Image.fromarray(mixed.round().astype(np.uint8))


def segment_edges(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels (H, W) whose upper or left neighbour is of another class or segment."""
    edges = np.zeros(labels.shape, dtype=bool)
    edges[1:] |= labels[1:] != labels[:-1]
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return edges


def write_picture(path: Path, picture: Image.Image) -> Path:
    """Writes a PNG, atomically."""
    return write_atomically(path, lambda part: picture.save(part, format="PNG"))


def draw_legend(indices: Sequence[int], names: Sequence[str], *, width: int) -> Image.Image:
    """Colours and names in rows of as many columns as the width holds."""
    shown = [shorten(names[index], width=220, size=13) for index in indices]
    column = 34 + max([int(font(13).getlength(name)) for name in shown] or [60])
    columns = max(1, (width - MARGIN) // column)
    rows = -(-len(shown) // columns)
    legend = Image.new("RGB", (width, max(1, rows) * 22 + MARGIN), PAPER)
    pen = ImageDraw.Draw(legend)
    for place, (index, name) in enumerate(zip(indices, shown, strict=True)):
        left, top = MARGIN + place % columns * column, place // columns * 22
        pen.rectangle((left, top + 2, left + 16, top + 17), fill=class_colour(index), outline=INK)
        pen.text((left + 22, top + 1), name, fill=INK, font=font(13))
    return legend


def draw_panels(
    image: Image.Image,
    maps: Mapping[str, Tensor],
    names: Sequence[str],
    labelled_HW: Tensor | None = None,
    *,
    height: int = 300,
    most: int = 24,
) -> Image.Image:
    """Picture and maps side by side, the legend of what is in them below.

    Args:
        image: RGB picture.
        maps: Title -> label map.
        names: Class names.
        labelled_HW: Where it is no class the maps are left dark, so that they can be compared; None shows all.
        height: Of every panel.
        most: Names in the legend, those of most pixels first.
    """
    classes = len(names)
    counts = np.zeros(classes, dtype=np.int64)
    columns = [("image", image)]
    for title, labels in maps.items():
        shown = labels if labelled_HW is None else labels.where(labelled_HW < classes, classes)
        values = shown.cpu().numpy()
        counts += np.bincount(values[values < classes], minlength=classes)
        small, values = shrink(image, values, height=height)
        columns.append((title, draw_segments(small, torch.from_numpy(values), classes=classes)))
    sheet = lay_out([columns], height=height)
    ranked = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]][:most]
    legend = draw_legend(ranked, names, width=sheet.width)
    whole = Image.new("RGB", (sheet.width, sheet.height + legend.height), PAPER)
    whole.paste(sheet, (0, 0))
    whole.paste(legend, (0, sheet.height))
    return whole
