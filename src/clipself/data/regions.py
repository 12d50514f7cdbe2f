"""Which regions of an image are distilled: the cells of a random grid, or proposals."""

import random

import torch
from torch import Tensor

from clipself.ops.boxes import box_areas, denormalize_boxes
from clipself.ops.grids import grid_boxes, grid_choices

MIN_AREA, MAX_AREA = 8.0**2, 1024.0**2
"""Bounds on proposals in squared original pixels (CLIPSelf, released data loader)."""


def draw_patches(size: tuple[int, int], rng: random.Random, *, max_split: int = 6, max_regions: int = 20) -> Tensor:
    """Draws one m x n grid uniformly, shuffles its cells and keeps the first ones.

    Source: CLIPSelf (arXiv:2310.01403), Sec. 3.2, with the released limits.

    Args:
        size: Height and width of the original image.
        rng: The only source of chance.
        max_split: Most rows or columns.
        max_regions: Most cells kept.

    Returns:
        Boxes (R, 4) in original pixels.
    """
    rows, cols = rng.choice(grid_choices(max_split))
    order = list(range(rows * cols))
    rng.shuffle(order)
    return denormalize_boxes(grid_boxes(rows, cols)[order[:max_regions]], size=size)


def choose_proposals(
    boxes: Tensor,
    *,
    size: tuple[int, int],
    rng: random.Random | None = None,
    max_regions: int = 20,
    min_area: float = MIN_AREA,
    max_area: float = MAX_AREA,
) -> Tensor:
    """Shuffles proposals, looks at the first ones and drops those of unfit area, so that fewer may be left.

    Source: CLIPSelf, released data loader; an image without survivors gives its top left quarter of the sides.

    Args:
        boxes: Proposals (N, 4) in original pixels.
        size: Height and width of the original image.
        rng: Source of the shuffle; None keeps the order.
        max_regions: How many are looked at.
        min_area: Smallest area in squared pixels.
        max_area: Largest area.

    Returns:
        Boxes (R, 4) in original pixels, R >= 1, in the dtype of the input.
    """
    order = list(range(len(boxes)))
    if rng is not None:
        rng.shuffle(order)
    chosen = boxes[order[:max_regions]]
    areas = box_areas(chosen)
    kept = chosen[(areas >= min_area) & (areas <= max_area)]
    if len(kept):
        return kept
    height, width = size
    return torch.tensor([[0.0, 0.0, max(1, width // 4), max(1, height // 4)]], dtype=boxes.dtype)
