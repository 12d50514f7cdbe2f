"""Look-ups between cells are grid_sample."""

import torch
import torch.nn.functional as F

from clipself.ops.sampling import read_between_cells


def test_it_reads_what_grid_sample_reads() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 4, 5, 7, generator=generator)
    places = torch.rand(3, 6, 2, 2, generator=generator) * 3 - 1.5  # beyond the border too
    places[0, 0, 0], places[0, 0, 1] = torch.tensor([-1.0, 1.0]), torch.tensor([6 / 7, 0.0])
    expected = F.grid_sample(maps, places, align_corners=False)
    torch.testing.assert_close(read_between_cells(maps, places), expected, atol=1e-5, rtol=0)
