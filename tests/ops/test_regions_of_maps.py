"""Boxes, grids, masks and pooling: hand-drawn cases and loops."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from clipself.ops.boxes import (
    check_boxes,
    denormalize_boxes,
    enlarge_boxes,
    normalize_boxes,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from clipself.ops.grids import grid_boxes, grid_choices
from clipself.ops.masks import boxes_around, masks_to_boxes, resize_masks_to_grid
from clipself.ops.pooling import pool_boxes, pool_masks


def halves() -> torch.Tensor:
    """A 2 x 2 map whose left column is e0 and whose right column is e1."""
    return torch.eye(2).expand(1, 2, 2, 2).permute(0, 2, 1, 3).contiguous()


@pytest.mark.parametrize(
    ("box_norm", "expected"),
    [
        pytest.param((0.0, 0.0, 0.5, 1.0), (1.0, 0.0), id="left-half-is-pure"),
        pytest.param((0.0, 0.0, 1.0, 1.0), (0.5, 0.5), id="whole-image-mixes-evenly"),
    ],
)
def test_pool_boxes_by_hand(box_norm: tuple[float, ...], expected: tuple[float, ...]) -> None:
    torch.testing.assert_close(pool_boxes(halves(), [torch.tensor([box_norm])]), torch.tensor([expected]))


def naive_roi(dense: torch.Tensor, box: tuple[float, float, float, float]) -> torch.Tensor:
    """RoIAlign with one bin, spelled out: ceil(size) samples a side, bilinear between cell centres."""
    channels, rows, cols = dense.shape
    left, top, right, bottom = box[0] * cols - 0.5, box[1] * rows - 0.5, box[2] * cols - 0.5, box[3] * rows - 0.5
    across, down = math.ceil(right - left), math.ceil(bottom - top)
    total = torch.zeros(channels)
    for i in range(down):
        for j in range(across):
            y = min(max(top + (i + 0.5) * (bottom - top) / down, 0.0), rows - 1.0)
            x = min(max(left + (j + 0.5) * (right - left) / across, 0.0), cols - 1.0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, cols - 1)
            fy, fx = y - y0, x - x0
            total += (1 - fy) * (1 - fx) * dense[:, y0, x0] + (1 - fy) * fx * dense[:, y0, x1]
            total += fy * (1 - fx) * dense[:, y1, x0] + fy * fx * dense[:, y1, x1]
    return total / (across * down)


def test_pool_boxes_is_roi_align_spelled_out() -> None:
    dense = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    boxes = [(0.11, 0.05, 0.63, 0.87), (0.4, 0.3, 0.52, 0.41), (0.02, 0.01, 0.97, 0.98)]
    pooled = pool_boxes(dense, [torch.tensor(boxes[:2]), torch.tensor(boxes[2:])])
    expected = [naive_roi(dense[0], boxes[0]), naive_roi(dense[0], boxes[1]), naive_roi(dense[1], boxes[2])]
    torch.testing.assert_close(pooled, torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_pool_masks_is_a_weighted_mean_of_unit_length() -> None:
    masks = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.5], [1.0, 0.5]], [[0.0, 0.0], [0.0, 0.0]]])
    pooled = pool_masks(halves(), [masks])
    length = math.hypot(2, 1)
    torch.testing.assert_close(pooled, torch.tensor([[1.0, 0.0], [2 / length, 1 / length], [0.0, 0.0]]))


def test_regions_of_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="2 sets of boxes for 1 images"):
        pool_boxes(halves(), [torch.zeros(1, 4)] * 2)
    with pytest.raises(ValueError, match=r"boxes of image 0 are \(4,\), expected \(r, 4\)"):
        pool_boxes(halves(), [torch.zeros(4)])
    with pytest.raises(ValueError, match="bring them to the grid with resize_masks_to_grid"):
        pool_masks(halves(), [torch.zeros(1, 3, 3)])


def test_the_24_published_grids() -> None:
    expected = [(m, n) for m in range(1, 7) for n in range(1, 7) if math.ceil(m / 2) <= n <= min(2 * m, 6)]
    assert grid_choices(6) == expected
    assert len(expected) == 24
    with pytest.raises(ValueError, match="leaves no grid"):
        grid_choices(0)


def test_grid_cells_row_by_row() -> None:
    thirds = [0.0, 1 / 3, 2 / 3, 1.0]
    expected = [[thirds[c], r / 2, thirds[c + 1], (r + 1) / 2] for r in range(2) for c in range(3)]
    torch.testing.assert_close(grid_boxes(2, 3), torch.tensor(expected))


def test_boxes_there_and_back() -> None:
    boxes = torch.tensor([[10.0, 20.0, 40.0, 80.0]])
    assert xyxy_to_xywh(boxes).tolist() == [[10.0, 20.0, 30.0, 60.0]]
    assert torch.equal(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)
    torch.testing.assert_close(normalize_boxes(boxes, size=(100, 200)), torch.tensor([[0.05, 0.2, 0.2, 0.8]]))
    torch.testing.assert_close(denormalize_boxes(normalize_boxes(boxes, size=(100, 200)), size=(100, 200)), boxes)


def test_enlarged_about_the_centre_and_clipped() -> None:
    boxes = torch.tensor([[40.0, 40.0, 60.0, 80.0], [0.0, 0.0, 20.0, 20.0]])
    enlarged = enlarge_boxes(boxes, factor=1.5, size=(90, 100))
    assert enlarged.tolist() == [[35.0, 30.0, 65.0, 90.0], [0.0, 0.0, 25.0, 25.0]]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        pytest.param([30.0, 5.0, 10.0, 20.0], "box 1 .* has swapped corners", id="swapped"),
        pytest.param([5.0, 5.0, 5.0, 20.0], "box 1 .* has no area", id="empty"),
        pytest.param([200.0, 5.0, 210.0, 20.0], "box 1 .* lies outside the image of 100 x 50 pixels", id="outside"),
        pytest.param([float("nan"), 5.0, 10.0, 20.0], "box 1 .* is not finite", id="nan"),
    ],
)
def test_boxes_that_cannot_be_meant(box: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=f"a.json: {message}"):
        check_boxes(torch.tensor([[0.0, 0.0, 5.0, 5.0], box]), size=(50, 100), source="a.json")


def test_boxes_over_the_border_are_clipped() -> None:
    checked = check_boxes(torch.tensor([[-2.0, 3.0, 104.0, 60.0]]), size=(50, 100), source="a.json")
    assert checked.tolist() == [[0.0, 3.0, 100.0, 50.0]]


def test_tight_boxes_of_masks_end_on_the_last_pixel() -> None:
    masks = torch.zeros(2, 10, 12, dtype=torch.bool)
    masks[0, 2:5, 3:9] = True
    assert masks_to_boxes(masks).tolist() == [[3.0, 2.0, 8.0, 4.0], [0.0, 0.0, 0.0, 0.0]]


def test_masks_on_the_grid_are_padded_right_and_below() -> None:
    masks = torch.ones(1, 40, 80, dtype=torch.bool)
    on_grid = resize_masks_to_grid(masks, grid=8)
    assert on_grid[0, :4].all()
    assert not on_grid[0, 4:].any()


def test_boxes_end_one_past_the_last_pixel() -> None:
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[0, 1:3, 2] = True
    assert boxes_around(masks).tolist() == [[2, 1, 3, 3], [0, 0, 0, 0]]
    assert boxes_around(masks[:0]).shape == (0, 4)


def test_boxes_in_pixels_are_no_shares() -> None:
    dense, wide = torch.randn(1, 4, 3, 3), [torch.tensor([[-0.2, 0.0, 1.4, 1.0]])]
    assert pool_boxes(dense, wide).shape == (1, 4)
    for box in ([0.0, 0.0, 30.0, 20.0], [0.0, 0.0, float("nan"), 1.0]):
        with pytest.raises(ValueError, match=r"boxes of image 0 reach .*, expected shares of the image in \[0, 1\]"):
            pool_boxes(dense, [torch.tensor([box])])


def test_boxes_of_arrays_and_lists_are_pooled_and_swapped_ones_refused() -> None:
    dense_BDYX = torch.eye(2).expand(1, 2, 2, 2).permute(0, 2, 1, 3)  # left column e0, right column e1
    boxes: list[Any] = [[[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]]]
    wanted = pool_boxes(dense_BDYX, [torch.tensor(boxes[0])])
    torch.testing.assert_close(wanted[0], torch.tensor([1.0, 0.0]))
    forms: list[Any] = [boxes, [np.array(boxes[0])], np.array(boxes)]
    for given in forms:
        assert torch.equal(pool_boxes(dense_BDYX, given), wanted)
    with pytest.raises(ValueError, match="boxes of image 0 have swapped corners"):
        pool_boxes(dense_BDYX, [torch.tensor([[0.5, 0.5, 0.0, 0.9]])])
