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

    def encode(length: int) -> Tensor:
        steps = torch.arange(1, length + 1, dtype=torch.float32, device=like.device)
        return sine_waves(steps / (length + 1e-6), half, temperature=temperature)

    rows, cols = grid
    by_row = encode(rows)[:, None].expand(rows, cols, half)
    by_col = encode(cols)[None].expand(rows, cols, half)
    return torch.cat([by_row, by_col], dim=2).permute(2, 0, 1)


def padded_sine_positions(padding_BYX: Tensor, channels: int, *, temperature: float = 10000.0) -> Tensor:
    """As `sine_positions`, on the part of each grid that its picture fills.

    Source: Deformable DETR (arXiv:2010.04159), released code: cell i of n stands at 2 pi (i + 1/2) / n.

    Args:
        padding_BYX: True where a cell lies outside its picture; positions there mean nothing.
        channels: Width; a multiple of 4.
        temperature: Ratio between the longest and the shortest wave.

    Returns:
        Positions (B, C, Y, X), float32.
    """
    counts = [(~padding_BYX).cumsum(axis, dtype=torch.float32) for axis in (1, 2)]
    lengths = [counts[0][:, -1:], counts[1][:, :, -1:]]
    shares = [(count - 0.5) / (length + 1e-6) for count, length in zip(counts, lengths, strict=True)]
    waves = [sine_waves(share, channels // 2, temperature=temperature) for share in shares]
    return torch.cat(waves, dim=-1).permute(0, 3, 1, 2)


def sine_waves(shares: Tensor, channels: int, *, temperature: float = 10000.0) -> Tensor:
    """Numbers in [0, 1] of any shape, each as sines on even and cosines on odd channels (..., C).

    Args:
        shares: Shares of a full turn of the shortest wave.
        channels: Even.
        temperature: Ratio between the longest and the shortest wave.
    """
    place = torch.arange(channels, dtype=torch.float32, device=shares.device)
    waves = temperature ** (2 * torch.div(place, 2, rounding_mode="floor") / channels)
    angles = (shares.float() * (2 * math.pi))[..., None] / waves
    return torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(-2)
