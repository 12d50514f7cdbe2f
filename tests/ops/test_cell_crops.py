"""Crops by single samples, against loops."""

import math

import pytest
import torch
from torch import Tensor

from clipself.ops.cell_crops import crop_cells, crop_levels, crop_means


def sample(map_YX: Tensor, y: float, x: float) -> float:
    """Bilinear between the cells around an index; beyond the last cell there is only the last cell."""
    rows, cols = map_YX.shape
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row, weight_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for col, weight_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            total += weight_y * weight_x * float(map_YX[min(row, rows - 1), min(col, cols - 1)])
    return total


def test_one_sample_a_bin_at_its_index() -> None:
    maps = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = torch.tensor([[0.0, 0.0, 7.0, 5.0], [1.2, 0.4, 3.9, 4.1], [6.0, 4.0, 7.0, 5.0]], dtype=torch.float64)
    images = torch.tensor([1, 0, 1])
    cropped = crop_cells(maps, boxes, images, bins=4)
    for number, (box, image) in enumerate(zip(boxes.tolist(), images.tolist(), strict=True)):
        for row in range(4):
            for col in range(4):
                y = box[1] + (row + 0.5) * (box[3] - box[1]) / 4
                x = box[0] + (col + 0.5) * (box[2] - box[0]) / 4
                wanted = [sample(maps[image, channel], y, x) for channel in range(3)]
                assert cropped[number, :, row, col].tolist() == pytest.approx(wanted)


def test_the_mean_of_a_crop_needs_no_crop() -> None:
    maps = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = [torch.tensor([[0.0, 0.0, 112.0, 80.0], [10.0, 20.0, 55.0, 41.0]]), torch.tensor([[3.0, 3.0, 90.0, 79.0]])]
    means = crop_means(maps, [one.double() for one in boxes], stride=16.0, bins=6)
    whole = crop_cells(maps, torch.cat(boxes).double() / 16, torch.tensor([0, 0, 1]), bins=6).mean((2, 3))
    torch.testing.assert_close(means, whole)


def test_each_box_is_cut_from_the_level_that_fits_it() -> None:
    maps = [torch.full((1, 1, 64 // 2**level, 64 // 2**level), float(level)) for level in (0, 1, 2, 3)]
    sides = {20.0: 0.0, 111.0: 0.0, 113.0: 1.0, 223.0: 1.0, 225.0: 2.0, 447.0: 2.0, 449.0: 3.0}
    boxes = torch.tensor([[0.0, 0.0, side, side] for side in sides])
    assert crop_levels(maps, [boxes], levels=(2, 5), bins=7)[:, 0, 3, 3].tolist() == list(sides.values())
    with pytest.raises(ValueError, match="3 maps for the levels 2 to 5"):
        crop_levels(maps[:3], [boxes], levels=(2, 5), bins=7)
