"""Which box belongs to which truth, and which of them a step learns from."""

from typing import Final

import torch
from torch import Tensor

BACKGROUND: Final = -1
NEITHER: Final = -2
"""Overlaps a truth too much for background and too little for a match."""


def match_boxes(iou_GR: Tensor, *, high: float, low: float, rescue: float | None = None) -> Tensor:
    """Gives each box the truth that it overlaps most, if that is enough.

    Source: Faster R-CNN (arXiv:1506.01497), Sec. 3.1.2; the rescue as in MMDetection, which F-ViT uses: it needs a
    least overlap, where torchvision's has none.

    Args:
        iou_GR: Overlap of G truths with R boxes, in [0, 1].
        high: From here on a box is matched.
        low: Below this it is background.
        rescue: A truth takes the boxes that overlap it most, however little, down to this overlap; None takes none.

    Returns:
        For each box (R,) the row of its truth, BACKGROUND or NEITHER.
    """
    truths, count = iou_GR.shape
    matched = torch.full((count,), BACKGROUND, dtype=torch.long, device=iou_GR.device)
    if not truths or not count:
        return matched
    best_R, truth_R = iou_GR.max(0)
    matched[(best_R >= low) & (best_R < high)] = NEITHER
    matched = torch.where(best_R >= high, truth_R, matched)
    if rescue is not None:
        best_G = iou_GR.max(1).values
        rescued_GR = (iou_GR == best_G[:, None]) & (best_G >= rescue)[:, None]
        rows = torch.arange(truths, device=iou_GR.device)[:, None].expand(-1, count)
        last_R = torch.where(rescued_GR, rows, BACKGROUND).max(0).values  # a later truth wins, as in the release
        matched = torch.where(last_R >= 0, last_R, matched)
    return matched


def draw_sample(
    matched_R: Tensor, *, count: int, share: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draws boxes to learn from: at most `share` of them matched, the rest background.

    Args:
        matched_R: Result of `match_boxes`.
        count: How many are drawn, if there are as many.
        share: Largest share of matched ones.
        generator: Source of the draw, on the CPU, so that every device draws alike.

    Returns:
        Indices of the matched ones and of the background ones.
    """
    matched = _draw((matched_R >= 0).nonzero().flatten(), int(count * share), generator)
    background = _draw((matched_R == BACKGROUND).nonzero().flatten(), count - len(matched), generator)
    return matched, background


def _draw(candidates: Tensor, most: int, generator: torch.Generator | None) -> Tensor:
    if len(candidates) <= most:
        return candidates
    order = torch.randperm(len(candidates), generator=generator)[:most]
    return candidates[order.to(candidates.device)]
