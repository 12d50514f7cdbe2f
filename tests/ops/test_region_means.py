"""Means of a map over boxes are what torchvision's RoIAlign of one bin says."""

import pytest
import torch
from torchvision.ops import roi_align

from clipself.ops.region_means import REGIONS_AT_ONCE, region_means

ODD = [
    (0, 10.0, 10.0, 10.0, 30.0),  # without width
    (1, 20.0, 20.0, 10.0, 10.0),  # turned over
    (0, -500.0, -500.0, -400.0, -400.0),  # nowhere near
    (1, -30.0, -30.0, 700.0, 700.0),  # larger than the map
    (0, 5.0, 5.0, 9.0, 9.0),  # within a cell
    (1, 0.0, 0.0, 144.0, 80.0),  # the map itself
]


@pytest.mark.parametrize("patch", [16, 14])
@pytest.mark.parametrize("side", [4.0, 60.0, 300.0])
def test_they_are_roi_aligns(side: float, patch: int) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, 5, 9, generator=generator, dtype=torch.float64)
    count = REGIONS_AT_ONCE + 40
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 160 - 20
    far = corner + torch.rand(count, 2, generator=generator, dtype=torch.float64) * side
    images = torch.randint(2, (count, 1), generator=generator).double()
    boxes = torch.cat([torch.cat([images, corner, far], dim=1), torch.tensor(ODD, dtype=torch.float64)])
    wanted = roi_align(maps, boxes, 1, 1 / patch, sampling_ratio=-1, aligned=True)[..., 0, 0]
    found = region_means(maps, boxes, spatial_scale=1 / patch)
    assert float((found - wanted).abs().max()) < 1e-12
    assert float(wanted.abs().max()) > 1.0
    single = region_means(maps.float(), boxes.float(), spatial_scale=1 / patch)
    assert float((single - wanted).abs().max()) < 1e-4  # a sample at the very edge may lie on either side of it


def test_without_boxes_there_are_none() -> None:
    assert region_means(torch.rand(1, 5, 4, 4), torch.zeros(0, 5), spatial_scale=1 / 16).shape == (0, 5)
