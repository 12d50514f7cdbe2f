"""Dots of scores: what is drawn follows the numbers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipself.viz.dots import draw_dots


def first_series(path: Path) -> np.ndarray:
    """Where the first colour lies, as truth values."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    return np.asarray(np.abs(pixels - (56, 138, 190)).sum(-1) < 60)


def test_a_dot_lies_where_its_value_is(tmp_path: Path) -> None:
    rows = ["value", "gem", "naclip"]
    path = draw_dots(
        {"mIoU": {"one": [10.0, None, 30.0], "two": [20.0, 20.0, 20.0]}}, rows=rows, path=tmp_path / "a.png"
    )
    held = first_series(path)
    bottom = held.shape[0] // 2
    above, below = (np.nonzero(part)[1].mean() for part in (held[bottom // 2 : bottom], held[bottom:]))
    assert above < below  # 10 in the first row, 30 in the last; nothing between


@pytest.mark.parametrize("panels", [{}, {"mIoU": {"one": [1.0]}}])
def test_what_cannot_be_drawn(panels: dict[str, dict[str, list[float | None]]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="each needs one value a row"):
        draw_dots(panels, rows=["value", "gem"], path=tmp_path / "a.png")
