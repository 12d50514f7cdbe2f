"""Image patches as regions: the random m x n grids of CLIPSelf."""

import torch
from torch import Tensor


def grid_choices(max_split: int = 6) -> list[tuple[int, int]]:
    """Every grid that may be drawn: rows up to `max_split`, columns from half to twice the rows.

    Source: CLIPSelf, released data loader: n from ceil(m / 2) to min(2 m, max_split).

    Args:
        max_split: Most rows or columns.

    Returns:
        (rows, columns) pairs; 24 for 6.

    Raises:
        ValueError: `max_split` is below 1.
    """
    check_split(max_split)
    return [
        (rows, cols)
        for rows in range(1, max_split + 1)
        for cols in range((rows + 1) // 2, min(2 * rows, max_split) + 1)
    ]


def check_split(max_split: int) -> None:
    """Refuses a finest grid without cells.

    Raises:
        ValueError: `max_split` is below 1.
    """
    if max_split < 1:
        raise ValueError(
            f"max_split={max_split} leaves no grid; it is the largest number of rows or columns, at least 1"
        )


def grid_boxes(rows: int, cols: int) -> Tensor:
    """The cells of a grid over the unit square, row by row.

    Returns:
        Normalised `xyxy` boxes (rows * cols, 4) in float32.

    Raises:
        ValueError: A side has no cells.
    """
    if rows < 1 or cols < 1:
        raise ValueError(f"a grid of {rows} x {cols} has no cells; both sides need at least 1")
    y, x = torch.linspace(0, 1, rows + 1), torch.linspace(0, 1, cols + 1)
    top, left = torch.meshgrid(y[:-1], x[:-1], indexing="ij")
    bottom, right = torch.meshgrid(y[1:], x[1:], indexing="ij")
    return torch.stack([left, top, right, bottom], dim=-1).reshape(-1, 4)
