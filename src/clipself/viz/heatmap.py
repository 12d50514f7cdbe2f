"""Heat maps: how near each patch is to a text, on one scale for all pictures and models that are shown together."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clipself.viz.lettering import font
from clipself.viz.panels import INK, LETTERS, MARGIN, PAPER, lay_out

COLOURS: Final = "plasma"
"""From dark blue to bright yellow: the ends differ in hue and in lightness, in print too."""
Scale = tuple[float, float]
"""Similarity drawn coldest, and hottest."""


def common_scale(maps: Iterable[NDArray[np.float32]]) -> Scale:
    """From the 2nd to the 98th percentile of all maps that are to be compared.

    Raises:
        ValueError: There are no maps, or a value is not finite.
    """
    values = [similarity.ravel() for similarity in maps]
    if not values or not np.isfinite(np.concatenate(values)).all():
        raise ValueError("there are no similarities to draw, or some are not finite; are the model's weights whole?")
    low, high = np.percentile(np.concatenate(values), (2, 98))
    return float(low), float(max(high, low + 1e-6))


def paint_heat(
    similarity_YX: NDArray[np.float32], image: Image.Image, *, low: float, high: float, opacity: float = 0.6
) -> Image.Image:
    """Lays similarities over a picture, smoothly enlarged.

    Args:
        similarity_YX: Cosine of each patch.
        image: The picture below.
        low: Similarity drawn coldest.
        high: Similarity drawn hottest.
        opacity: Of the colours, in [0, 1].
    """
    scaled = np.clip((similarity_YX - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    smooth = np.asarray(Image.fromarray(scaled).resize(image.size, Image.Resampling.BICUBIC))
    colours = (colormaps[COLOURS](np.clip(smooth, 0, 1))[..., :3] * 255).astype(np.uint8)
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(colours), opacity)


def draw_query(
    image: Image.Image,
    text: str,
    maps: Sequence[tuple[str, NDArray[np.float32]]],
    *,
    scale: Scale | None = None,
    opacity: float = 0.6,
) -> Image.Image:
    """One row: the picture, then each map's similarity to the text, and the bar of the colours.

    Args:
        image: The picture.
        text: What was asked.
        maps: Title and similarities (Y, X) of each column.
        scale: Of the colours; that of these maps if not given.
        opacity: Of the colours, in [0, 1].
    """
    low, high = scale if scale is not None else common_scale(similarity for _, similarity in maps)
    columns = [(f'"{text}"', image)]
    for title, similarity in maps:
        columns.append((title, paint_heat(similarity, image, low=low, high=high, opacity=opacity)))
    row = lay_out([columns])
    bar = draw_bar((low, high), height=row.height)
    whole = Image.new("RGB", (row.width + bar.width, row.height), PAPER)
    whole.paste(row, (0, 0))
    whole.paste(bar, (row.width, 0))
    return whole


def draw_bar(scale: Scale, *, height: int) -> Image.Image:
    """The colours from hot to cold, with the similarities of both ends and of the middle."""
    top, bottom = 26, height - MARGIN
    share = np.linspace(1, 0, max(2, bottom - top))[:, None].repeat(14, axis=1)
    colours = Image.fromarray((colormaps[COLOURS](share)[..., :3] * 255).astype(np.uint8))
    bar = Image.new("RGB", (14 + 60, height), PAPER)
    bar.paste(colours, (0, top))
    pen = ImageDraw.Draw(bar)
    for at in (1.0, 0.5, 0.0):
        y = top + (1 - at) * (bottom - top - LETTERS - 3)
        pen.text((18, y), f"{scale[0] + at * (scale[1] - scale[0]):.3f}", fill=INK, font=font(LETTERS - 1))
    return bar
