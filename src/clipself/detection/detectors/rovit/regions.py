"""Regions that a step learns from, and their losses."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from clipself.detection.detectors.rovit.geometry import encode_regions
from clipself.detection.detectors.two_stage.regions import RegionTargets, mask_targets
from clipself.ops.matching import draw_sample, match_boxes

MATCH, SHARE = 0.5, 0.25
"""Overlap of a match, and most matched regions among those that are drawn."""


def sample_regions(
    proposals: Tensor, truth: Tensor, labels: Tensor, *, background: int, count: int, generator: torch.Generator
) -> RegionTargets:
    """Draws from the proposals and the true boxes, which are proposals too while training.

    Args:
        proposals: Boxes (N, 4) of one image.
        truth: Its annotated boxes (G, 4).
        labels: Their classes (G,).
        background: Column of the background.
        count: How many are drawn, if there are as many.
        generator: Source of the draw.
    """
    boxes = torch.cat([truth, proposals])
    matched_R = match_boxes(box_iou(truth, boxes), high=MATCH, low=MATCH)
    matches, others = draw_sample(matched_R, count=count, share=SHARE, generator=generator)
    rows = torch.cat([matches, others])
    wanted = torch.full((len(rows),), background, dtype=torch.long, device=rows.device)
    wanted[: len(matches)] = labels[matched_R[matches]]
    return RegionTargets(
        boxes=boxes[rows], labels=wanted, deltas=encode_regions(boxes[matches], truth[matched_R[matches]]),
        truth=matched_R[matches],
    )  # fmt: skip


def mask_loss(logits_Ryx: Tensor, targets: Sequence[RegionTargets], masks: Sequence[Tensor]) -> Tensor:
    """Binary cross entropy of the matched regions' masks: for each image the mean over its cells, summed."""
    matched = [target.boxes[: len(target.truth)] for target in targets]
    total: Tensor = logits_Ryx.sum() * 0
    split = torch.split(logits_Ryx, [len(boxes) for boxes in matched])
    for logits, boxes, target, whole in zip(split, matched, targets, masks, strict=True):
        if len(boxes):
            wanted = mask_targets(whole, boxes, target.truth, side=logits.shape[-1])
            total = total + F.binary_cross_entropy_with_logits(logits, wanted)
    return total
