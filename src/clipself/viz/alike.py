"""A picture whose patches are asked by the pointer: what else looks like the one below it. For pages, as JSON."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from clipself.viz.heatmap import COLOURS, common_scale

MOST_PATCHES: Final = 1024
"""Of a larger map neighbours are averaged: every pair of patches is sent."""
SCRIPT: Final = (Path(__file__).parent / "alike.js").read_text(encoding="utf-8")
"""Draws it: expects `element` and `props.value`, the JSON of `alike_panel`, and `watch`."""


def alike_panel(image: Image.Image, maps: Sequence[tuple[str, NDArray[np.float32]]]) -> str:
    """All that a page needs to show, for any patch below the pointer, the cosines of all others.

    Args:
        image: The picture.
        maps: Title and dense map (D, Y, X) of each model.

    Returns:
        JSON: the picture as a data address, the colours (256 x 3 bytes) and of each map its title, grid, the cosines of
        all pairs (P x P bytes) and what the least and largest byte stand for.
    """
    jpeg = io.BytesIO()
    image.convert("RGB").save(jpeg, format="JPEG", quality=90)
    shown = [(title, pairs_of(dense_DYX)) for title, dense_DYX in maps]
    low, high = common_scale(cosines for _, (cosines, _) in shown)
    return json.dumps(
        {
            "picture": "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode("ascii"),
            "size": [image.width, image.height],
            "colours": _encode(colormaps[COLOURS](np.linspace(0, 1, 256))[:, :3] * 255),
            "scale": [round(low, 4), round(high, 4)],
            "maps": [
                {"title": title, "grid": grid, "cosines": _encode((cosines - low) / (high - low) * 255)}
                for title, (cosines, grid) in shown
            ],
        }
    )


def pairs_of(dense_DYX: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """The cosine of every patch with every other (P, P), and the grid (rows, columns) that P counts row by row."""
    while dense_DYX.shape[1] * dense_DYX.shape[2] > MOST_PATCHES:
        depth, rows, cols = dense_DYX.shape
        padded = np.pad(dense_DYX, ((0, 0), (0, rows % 2), (0, cols % 2)), mode="edge")
        dense_DYX = padded.reshape(depth, (rows + 1) // 2, 2, (cols + 1) // 2, 2).mean((2, 4))
    rows_PD = dense_DYX.reshape(len(dense_DYX), -1).T
    rows_PD = rows_PD / np.maximum(np.linalg.norm(rows_PD, axis=1, keepdims=True), 1e-6)
    return (rows_PD @ rows_PD.T).astype(np.float32), (dense_DYX.shape[1], dense_DYX.shape[2])


def _encode(values: NDArray[np.floating]) -> str:
    return base64.b64encode(np.clip(np.rint(values), 0, 255).astype(np.uint8).tobytes()).decode("ascii")
