"""Anchor boxes on a grid of any stride, whole or not."""

from collections.abc import Sequence

import torch
from torch import Tensor


def grid_anchors(
    grid: tuple[int, int],
    *,
    stride: float,
    scale: float | Sequence[float] = 8.0,
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """One anchor for each scale and ratio at each cell, centred on the cell's corner index * stride, without rounding.

    torchvision's generator floors the stride to an integer and rounds the sides, so that a stride of 3.5 (L/14)
    misplaces every anchor; this one does neither.
    Source: F-ViT (CLIPSelf, detection): scale 8, ratios 1/2, 1, 2.

    Args:
        grid: Rows and columns of the map.
        stride: Pixels between neighbouring cells.
        scale: Root of an anchor's area, in strides; or several.
        ratios: Height over width.
        dtype: Of the result.
        device: Of the result.

    Returns:
        `xyxy` boxes (Y * X * A, 4) in pixels: row by row, column by column, scale by scale, ratio by ratio.
    """
    roots = torch.tensor(list(ratios), dtype=torch.float64).sqrt()
    scales = torch.tensor([scale] if isinstance(scale, int | float) else list(scale), dtype=torch.float64)[:, None]
    half_width, half_height = 0.5 * stride * scales / roots, 0.5 * stride * scales * roots
    cell_A4 = torch.stack([-half_width, -half_height, half_width, half_height], dim=-1).reshape(-1, 4)
    y = torch.arange(grid[0], dtype=torch.float64) * stride
    x = torch.arange(grid[1], dtype=torch.float64) * stride
    centre_y, centre_x = torch.meshgrid(y, x, indexing="ij")
    shift_P4 = torch.stack([centre_x, centre_y, centre_x, centre_y], dim=-1).reshape(-1, 4)
    return (shift_P4[:, None] + cell_A4[None]).reshape(-1, 4).to(dtype=dtype, device=device)
