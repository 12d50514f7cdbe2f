"""Heat maps: how near each patch is to a text."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from clipself.viz.panels import lay_out


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
    colours = (colormaps["turbo"](np.clip(smooth, 0, 1))[..., :3] * 255).astype(np.uint8)
    return Image.blend(image, Image.fromarray(colours), opacity)


def draw_query(
    image: Image.Image, text: str, maps: Sequence[tuple[str, NDArray[np.float32]]], *, opacity: float = 0.6
) -> Image.Image:
    """One row: the picture, then each map's similarity to the text.

    Each column runs from its own 2nd to its own 98th percentile, which the title gives: models differ in offset, and
    what counts is where in the picture the text is found.

    Args:
        image: The picture.
        text: What was asked.
        maps: Title and similarities (Y, X) of each column.
        opacity: Of the colours, in [0, 1].
    """
    columns = [(f'"{text}"', image)]
    for title, similarity in maps:
        low, high = (float(value) for value in np.percentile(similarity, (2, 98)))
        heat = paint_heat(similarity, image, low=low, high=high, opacity=opacity)
        columns.append((f"{title}  {low:.2f} to {high:.2f}", heat))
    return lay_out([columns])
