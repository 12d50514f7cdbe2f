"""Masks as plain tensors, brought to the patch grid as the published evaluation does."""

import torch
import torch.nn.functional as F
from torch import Tensor


def masks_to_boxes(masks_RHW: Tensor) -> Tensor:
    """The tight box of each mask; its far corner is the last pixel, so it is one pixel short, as published.

    Args:
        masks_RHW: Boolean masks (R, H, W).

    Returns:
        Boxes (R, 4) in pixels, float32; zeros for a mask without area.
    """
    boxes = torch.zeros(masks_RHW.shape[0], 4)
    for index, mask in enumerate(masks_RHW):
        rows, cols = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        if len(rows):
            boxes[index] = torch.tensor([cols[0], rows[0], cols[-1], rows[-1]], dtype=torch.float32)
    return boxes


def boxes_around(masks_NHW: Tensor) -> Tensor:
    """Tight `xyxy` boxes (N, 4) in pixels, far corner one past the last pixel; zeros where a mask is empty."""

    def ends(hit_NL: Tensor) -> tuple[Tensor, Tensor]:
        length = hit_NL.shape[1]
        steps = torch.arange(length, device=hit_NL.device)
        first = torch.where(hit_NL, steps, length).amin(1) if length else hit_NL.new_zeros(len(hit_NL))
        last = torch.where(hit_NL, steps + 1, 0).amax(1) if length else hit_NL.new_zeros(len(hit_NL))
        return torch.where(last > 0, first, 0), last

    if not len(masks_NHW):
        return torch.zeros(0, 4, device=masks_NHW.device)
    left, right = ends(masks_NHW.any(1))
    top, bottom = ends(masks_NHW.any(2))
    return torch.stack([left, top, right, bottom], dim=1).float()


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

    Raises:
        ValueError: The masks are not (R, H, W), or the grid has no cells.
    """
    if masks_RHW.ndim != 3 or grid < 1:
        raise ValueError(
            f"masks are {tuple(masks_RHW.shape)} and the grid has a side of {grid}; expected (R, H, W) and at least 1"
        )
    scale = grid / max(masks_RHW.shape[1:])
    rows, cols = (max(1, round(length * scale)) for length in masks_RHW.shape[1:])
    on_grid = torch.zeros(len(masks_RHW), grid, grid, dtype=torch.bool, device=masks_RHW.device)
    for index, mask_HW in enumerate(masks_RHW):  # one at a time: a hundred float masks of a photograph are gigabytes
        resized = F.interpolate(mask_HW[None, None].float(), size=(rows, cols), mode="bicubic", antialias=antialias)
        on_grid[index, :rows, :cols] = resized[0, 0] > 0
    return on_grid


def class_scores(classes_QK: Tensor, masks_QHW: Tensor) -> Tensor:
    """Masks and their classes as scores of every class at every pixel: each mask weighted by its class probabilities.

    Source: MaskFormer (arXiv:2107.06278), Sec. 3.4.

    Args:
        classes_QK: Class probabilities of each mask; a batch may stand ahead, here and in the masks.
        masks_QHW: Mask probabilities.

    Returns:
        Sums over the masks (K, H, W).
    """
    return torch.einsum("...qk,...qhw->...khw", classes_QK, masks_QHW)
