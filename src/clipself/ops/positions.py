"""Learned position tables carried to another patch grid."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.ops.cell_crops import crop_cells


def resize_position_table(
    table_NC: Tensor,
    *,
    native_grid: tuple[int, int],
    grid: tuple[int, int],
    prefix: int = 1,
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
        prefix: Rows ahead of the grid's: 1 for the class token's, 0 where there is none.
        by: "size" asks for the target size; "scale_factor" passes (grid + offset) / native to the sampler, as the
            training-free projects do, which shifts the sample points slightly.
        offset: Of "scale_factor", in patches.

    Returns:
        Table (prefix + rows * columns, C) in the dtype of the input.

    Raises:
        ValueError: The table does not fill the native grid.
    """
    rows, cols = native_grid
    if table_NC.shape[0] != prefix + rows * cols:
        ahead = "a class token and " if prefix else ""
        raise ValueError(
            f"a position table of {table_NC.shape[0]} rows does not hold {ahead}a {rows} x {cols} grid "
            f"({prefix + rows * cols} rows); pass the grid of the images that the tower was trained on"
        )
    if not torch.compiler.is_exporting() and grid == native_grid:  # an exported graph must serve every grid
        return table_NC
    class_row, patches = table_NC[:prefix], table_NC[prefix:]
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


def crop_position_table(table_PC: Tensor, boxes_B4: Tensor, *, grid: tuple[int, int], enlarged: int = 64) -> Tensor:
    """Positions of a crop of a larger picture: the table enlarged, cut by a box, brought back to its own grid.

    Source: RO-ViT (arXiv:2305.07011), Sec. 3.2, released code; see `crop_cells` for how it samples: the box that is the
    whole picture does not give the table back.

    Args:
        table_PC: Table without a class token, row by row.
        boxes_B4: For each picture its crop, `xyxy` in cells of the enlarged grid.
        grid: Rows and columns of the table, and of what is returned.
        enlarged: Side of the enlarged grid.

    Returns:
        (B, P, C).

    Raises:
        ValueError: The table does not fill the grid, or the grid is not square.
    """
    rows, cols = grid
    if len(table_PC) != rows * cols or rows != cols:
        raise ValueError(f"a table of {len(table_PC)} rows is no square grid of {rows} x {cols}; crops need one")
    large_1CYX = enlarge_positions(table_PC, grid=grid, side=enlarged)
    images_B = torch.zeros(len(boxes_B4), dtype=torch.long, device=table_PC.device)
    return crop_cells(large_1CYX, boxes_B4, images_B, bins=rows).flatten(2).mT


def enlarge_positions(table_PC: Tensor, *, grid: tuple[int, int], side: int) -> Tensor:
    """A table without a class token (P, C) -> map (1, C, side, side), bilinear, corners not aligned."""
    map_1CYX = table_PC.mT.reshape(1, -1, *grid)
    return F.interpolate(map_1CYX, size=(side, side), mode="bilinear", align_corners=False)


def draw_crop(
    generator: torch.Generator, *, side: float, area: tuple[float, float] = (0.1, 1.0),
    aspect: tuple[float, float] = (0.5, 2.0), tries: int = 10,
) -> Tensor:  # fmt: skip
    """A random crop of a square, as random resized crops are drawn.

    RO-ViT tells the ranges and not the law: the aspect is drawn uniformly in its logarithm, as is usual, and where ten
    tries do not fit, the largest crop of an allowed aspect is taken, here the square itself.

    Args:
        generator: Source of the draw.
        side: Of the square.
        area: Least and largest share of its area.
        aspect: Least and largest ratio of width to height.
        tries: Draws ahead of the fallback.

    Returns:
        `xyxy` box (4,).
    """
    low, high = (math.log(one) for one in aspect)
    for share, place, x, y in torch.rand(tries, 4, generator=generator, dtype=torch.float64).tolist():
        surface, ratio = area[0] + share * (area[1] - area[0]), math.exp(low + place * (high - low))
        width, height = math.sqrt(surface * ratio), math.sqrt(surface / ratio)
        if width <= 1 and height <= 1:
            left, top = x * (1 - width), y * (1 - height)
            return side * torch.tensor([left, top, left + width, top + height])
    return side * torch.tensor([0.0, 0.0, 1.0, 1.0])


def drop_positions(table_NC: Tensor, keep_B: Tensor) -> Tensor:
    """Each picture's positions: the whole table or nothing; CFM-ViT's dropout (arXiv:2309.00775), as we read it.

    Args:
        table_NC: Table, or one table a picture (B, N, C).
        keep_B: Which pictures keep theirs.

    Returns:
        (B, N, C).
    """
    return table_NC * keep_B.to(table_NC)[:, None, None]
