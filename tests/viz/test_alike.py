"""What is sent to the page is what was computed: every pair of patches, in bytes."""

import base64
import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clipself.viz.alike import MOST_PATCHES, alike_panel, pairs_of


def random_map(rows: int, cols: int, depth: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((depth, rows, cols)).astype(np.float32)


def test_the_cosine_of_every_pair() -> None:
    dense_DYX = random_map(2, 3)
    cosines, grid = pairs_of(dense_DYX)
    assert grid == (2, 3)
    patches = [dense_DYX[:, row, col].tolist() for row in range(2) for col in range(3)]
    for i, one in enumerate(patches):
        for j, other in enumerate(patches):
            product = sum(a * b for a, b in zip(one, other, strict=True))
            assert cosines[i, j] == pytest.approx(product / (math.hypot(*one) * math.hypot(*other)), abs=1e-5)


def test_neighbours_of_a_large_map_are_averaged() -> None:
    dense_DYX = np.repeat(np.repeat(random_map(16, 17), 4, axis=1), 4, axis=2)  # 64 x 68, constant in squares of 4
    cosines, grid = pairs_of(dense_DYX)
    assert grid == (16, 17)
    np.testing.assert_allclose(cosines, pairs_of(random_map(16, 17))[0], atol=1e-5)
    assert pairs_of(random_map(33, 35))[1] == (17, 18)
    assert len(pairs_of(random_map(32, 32))[0]) == MOST_PATCHES


def test_the_bytes_are_the_cosines_on_one_scale() -> None:
    maps = [("original", random_map(2, 3)), ("refined", random_map(3, 3))]
    told = json.loads(alike_panel(Image.new("RGB", (30, 20)), maps))
    assert told["size"] == [30, 20]
    assert told["picture"].startswith("data:image/jpeg;base64,")
    assert len(base64.b64decode(told["colours"])) == 256 * 3
    low, high = told["scale"]
    for (title, dense_DYX), sent in zip(maps, told["maps"], strict=True):
        cosines, grid = pairs_of(dense_DYX)
        assert (sent["title"], tuple(sent["grid"])) == (title, grid)
        values = np.frombuffer(base64.b64decode(sent["cosines"]), dtype=np.uint8).reshape(cosines.shape)
        np.testing.assert_allclose(low + values / 255 * (high - low), np.clip(cosines, low, high), atol=0.006)
