"""Learned position tables carried to another patch grid."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_position_table(
    table_NC: Tensor,
    *,
    native_grid: tuple[int, int],
    grid: tuple[int, int],
    by: Literal["size", "scale_factor"] = "size",
    offset: float = 0.1,
) -> Tensor:
    """Resamples a position table to another grid; the class token's row is copied.

    Bicubic, corners not aligned, without antialiasing, in float32; the native grid is returned as it is.
    Source: the published CLIPSelf towers (both families resize in the forward pass).

    Args:
        table_NC: Table (1 + P, C), class token first.
        native_grid: Rows and columns of the table's own grid, P = rows * columns.
        grid: Rows and columns wanted.
        by: "size" asks for the target size; "scale_factor" passes (grid + offset) / native to the sampler, as the
            training-free projects do, which shifts the sample points slightly.
        offset: Of "scale_factor", in patches.

    Returns:
        Table (1 + rows * columns, C) in the dtype of the input.

    Raises:
        ValueError: The table does not fill the native grid.
    """
    rows, cols = native_grid
    if table_NC.shape[0] != 1 + rows * cols:
        raise ValueError(
            f"a position table of {table_NC.shape[0]} rows does not hold a class token and a {rows} x {cols} grid "
            f"({1 + rows * cols} rows); pass the grid of the images that the tower was trained on"
        )
    if grid == native_grid:
        return table_NC
    class_row, patches = table_NC[:1], table_NC[1:]
    map_1CYX = patches.float().reshape(1, rows, cols, -1).permute(0, 3, 1, 2)
    if by == "size":
        resized = F.interpolate(map_1CYX, size=grid, mode="bicubic", align_corners=False, antialias=False)
    else:
        factors = ((grid[0] + offset) / rows, (grid[1] + offset) / cols)
        resized = F.interpolate(
            map_1CYX, scale_factor=factors, mode="bicubic", align_corners=False, recompute_scale_factor=False
        )
    flat = resized.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1)
    return torch.cat([class_row, flat.to(table_NC.dtype)])
