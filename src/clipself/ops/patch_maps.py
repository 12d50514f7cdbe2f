"""Patches of maps: how alike they are, which region each belongs to, and what regions have in common."""

import torch
import torch.nn.functional as F
from torch import Tensor


def patch_cosines(patches_BPC: Tensor) -> Tensor:
    """Cosines (B, P, P) of all patches of an image with each other."""
    unit_BPC: Tensor = F.normalize(patches_BPC, dim=-1)
    return unit_BPC @ unit_BPC.mT


def regions_on_grid(regions_BHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Numbers of regions at another size (B, h, w): that of each cell's centre."""
    return F.interpolate(regions_BHW[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


def unit_means(rows_PC: Tensor, regions_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the rows of each region have in common.

    Returns:
        Numbers of the regions, ascending (R); the place of each row's region among them (P); means over the rows of
        each, unit vectors (R, C).
    """
    numbers_R, place_P = torch.unique(regions_P, return_inverse=True)
    sums_RC = rows_PC.new_zeros(len(numbers_R), rows_PC.shape[1]).index_add_(0, place_P, rows_PC)
    return numbers_R, place_P, F.normalize(sums_RC, dim=-1)
