"""Polygons along the borders of masks, against pycocotools and matplotlib, which fill polygons by their own rules."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.path import Path
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy import ndimage

from clipself.ops.outlines import join_rings, outline, simplify_ring, trace_rings


def fill(ring: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    filled: NDArray[np.bool_] = coco_mask.decode(coco_mask.frPyObjects([ring.flatten().tolist()], *size)[0]).astype(
        bool
    )
    return filled


def blobs(seed: int, size: tuple[int, int] = (40, 56), share: float = 0.5, width: float = 2.0) -> NDArray[np.bool_]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size), width)
    return np.asarray(noise > np.quantile(noise, 1 - share))


def area(ring: NDArray[np.float64]) -> float:
    x, y = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param(["1"], [[(0, 0), (1, 0), (1, 1), (0, 1)]], id="a-pixel"),
        pytest.param(["010", "111"], [[(1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (0, 2), (0, 1), (1, 1)]], id="a-hat"),
        pytest.param(["10", "01"], [[(0, 0), (1, 0), (1, 1), (0, 1)], [(1, 1), (2, 1), (2, 2), (1, 2)]], id="a-touch"),
        pytest.param(
            ["111", "101", "111"], [[(0, 0), (3, 0), (3, 3), (0, 3)], [(1, 1), (1, 2), (2, 2), (2, 1)]], id="a-hole"
        ),
        pytest.param(["000"], [], id="nothing"),
    ],
)
def test_rings_of_drawn_masks(rows: list[str], expected: list[list[tuple[int, int]]]) -> None:
    mask = np.array([[letter == "1" for letter in row] for row in rows])
    found = [list(map(tuple, ring.tolist())) for ring in trace_rings(mask)]

    def turned(ring: list[tuple[int, int]]) -> list[tuple[int, int]]:
        start = ring.index(min(ring))
        return ring[start:] + ring[:start]

    assert sorted(map(turned, found)) == sorted(map(turned, expected))


@pytest.mark.parametrize("seed", range(8))
def test_one_polygon_fills_exactly_its_mask_holes_and_parts_included(seed: int) -> None:
    mask = blobs(seed, share=0.4 + 0.05 * seed)
    rings = trace_rings(mask)
    assert sum(map(area, rings)) == mask.sum()  # holes turn the other way
    assert sum(area(ring) > 0 for ring in rings) == ndimage.label(mask)[1]
    ring = outline(mask)
    assert ring is not None
    np.testing.assert_array_equal(fill(ring, mask.shape), mask)
    ys, xs = np.nonzero(mask)
    assert (ring.min(0).tolist(), ring.max(0).tolist()) == ([xs.min(), ys.min()], [xs.max() + 1, ys.max() + 1])


def test_noise_of_single_pixels_is_followed_too() -> None:
    mask = np.random.default_rng(0).random((25, 31)) > 0.5
    rings = trace_rings(mask)
    assert sum(map(area, rings)) == mask.sum()
    ring = outline(mask)
    assert ring is not None
    np.testing.assert_array_equal(fill(ring, mask.shape), mask)


@pytest.mark.parametrize("seed", range(4))
def test_a_simpler_polygon_keeps_its_box_and_nearly_its_pixels(seed: int) -> None:
    mask = blobs(seed, size=(120, 160), share=0.3, width=7.0)
    exact, simple = outline(mask), outline(mask, tolerance=1.0)
    assert exact is not None
    assert simple is not None
    assert len(simple) < 0.6 * len(exact)
    assert simple.min(0).tolist() == exact.min(0).tolist()
    assert simple.max(0).tolist() == exact.max(0).tolist()
    middles = np.stack(np.meshgrid(np.arange(160), np.arange(120)), axis=-1).reshape(-1, 2) + 0.5
    drawn = Path(np.concatenate([simple, simple[:1]]), closed=True).contains_points(middles).reshape(mask.shape)
    for filled in (fill(simple, mask.shape), drawn):
        assert (filled & mask).sum() / (filled | mask).sum() > 0.9


def test_no_corner_that_is_left_out_lies_farther_than_told() -> None:
    for ring in trace_rings(blobs(3, size=(80, 80))):
        simple = simplify_ring(ring, 1.5)
        closed = np.concatenate([simple, simple[:1]])
        for point in ring:
            gaps = []
            for start, end in pairwise(closed):
                share = np.clip((point - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
                gaps.append(np.hypot(*(point - start - share * (end - start))))
            assert min(gaps) <= 1.5 + 1e-9
    assert simplify_ring(np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]]), 9).tolist() == [[0, 0], [4, 0], [4, 4], [0, 4]]


def test_a_bridge_is_walked_both_ways() -> None:
    square = np.array([[0.0, 0], [2, 0], [2, 2], [0, 2]])
    joined = join_rings([square, square + np.array([5, 0])])
    assert joined.tolist() == [[0, 0], [2, 0], [5, 0], [7, 0], [7, 2], [5, 2], [5, 0], [2, 0], [2, 2], [0, 2]]
