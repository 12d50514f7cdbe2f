"""Masks as plain tensors, brought to the patch grid as the published evaluation does."""

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as T


def masks_to_boxes(masks_RHW: Tensor) -> Tensor:
    """The tight box of each mask; its far corner is the last pixel, so it is one pixel short, as published.

    Args:
        masks_RHW: Boolean masks (R, H, W).

    Returns:
        Boxes (R, 4) in pixels; zeros for a mask without area.
    """
    boxes = torch.zeros(masks_RHW.shape[0], 4)
    for index, mask in enumerate(masks_RHW):
        rows, cols = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        if len(rows):
            boxes[index] = torch.tensor([cols[0], rows[0], cols[-1], rows[-1]], dtype=torch.float32)
    return boxes


def resize_masks_to_grid(masks_RHW: Tensor, *, grid: int, antialias: bool = False) -> Tensor:
    """Resizes masks as the student's image is: longest side to the grid, bicubic, padded right and below.

    Source: CLIPSelf, released evaluation, as it ran with torchvision before 0.17, which never antialiased tensors; with
    antialiasing about twice as many cells stay set and masks bleed into each other.

    Args:
        masks_RHW: Masks (R, H, W) at image resolution.
        grid: Side of the square patch grid, in patches.
        antialias: Whether to filter before sampling; only for comparison.

    Returns:
        Boolean masks (R, grid, grid).
    """
    height, width = masks_RHW.shape[-2:]
    scale = grid / max(height, width)
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    resized = T.resize(masks_RHW.float(), size, interpolation=InterpolationMode.BICUBIC, antialias=antialias)
    padded: Tensor = torch.nn.functional.pad(resized, (0, grid - size[1], 0, grid - size[0])) > 0
    return padded
