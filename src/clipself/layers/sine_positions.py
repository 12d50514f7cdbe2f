"""Positions of a grid as sines and cosines."""

import math

import torch
from torch import Tensor


def sine_positions(grid: tuple[int, int], channels: int, *, like: Tensor, temperature: float = 10000.0) -> Tensor:
    """Encodes rows in the first half of the channels and columns in the second.

    Source: DETR (arXiv:2005.12872), normalised form: cell i of n stands at 2 pi (i + 1) / n.

    Args:
        grid: Rows and columns.
        channels: Width; a multiple of 4.
        like: A tensor whose device the result shares.
        temperature: Ratio between the longest and the shortest wave.

    Returns:
        Positions (C, Y, X), float32.

    Raises:
        ValueError: The width is no multiple of 4.
    """
    if channels % 4:
        raise ValueError(f"{channels} channels cannot hold sines and cosines of two axes; use a multiple of 4")
    half = channels // 2
    place = torch.arange(half, dtype=torch.float32, device=like.device)
    waves = temperature ** (2 * torch.div(place, 2, rounding_mode="floor") / half)

    def encode(length: int) -> Tensor:
        steps = torch.arange(1, length + 1, dtype=torch.float32, device=like.device)
        angles = (steps / (length + 1e-6) * (2 * math.pi))[:, None] / waves
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)

    rows, cols = grid
    by_row = encode(rows)[:, None].expand(rows, cols, half)
    by_col = encode(cols)[None].expand(rows, cols, half)
    return torch.cat([by_row, by_col], dim=2).permute(2, 0, 1)
