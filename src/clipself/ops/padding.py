"""Zeros right and below of pictures, and where they lie."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Zeros right and below of images (..., H, W) until both sides are multiples."""
    height, width = images.shape[-2:]
    down, right = -height % multiple, -width % multiple
    return F.pad(images, (0, right, 0, down)) if down or right else images


def padding_of(images_B3HW: Tensor, sizes: Sequence[tuple[int, int]] | Tensor) -> Tensor:
    """True where a pixel lies outside its picture, (B, H, W).

    Args:
        images_B3HW: Padded right and below.
        sizes: Height and width of each picture's own pixels (B, 2).
    """
    rows, cols = (torch.arange(side, device=images_B3HW.device) for side in images_B3HW.shape[2:])
    limits = torch.as_tensor(sizes, device=images_B3HW.device)
    return (rows[None, :, None] >= limits[:, :1, None]) | (cols[None, None] >= limits[:, 1:, None])
