"""Which proposals a step learns from, and what they should say."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou, roi_align

from clipself.detection.detectors.two_stage.settings import TwoStageSettings
from clipself.ops.deltas import encode_boxes
from clipself.ops.matching import draw_sample, match_boxes

STDS = (0.1, 0.1, 0.2, 0.2)
MATCH, SHARE = 0.5, 0.25
"""Overlap that makes a proposal a match; largest share of matches in a sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionTargets:
    """Proposals of one image with their targets, matches first.

    Attributes:
        boxes: Sampled boxes (r, 4) in canvas pixels.
        labels: Class of each (r,); the background is the vocabulary's last column.
        deltas: Offsets to the truth for the matches (m, 4).
        truth: Row of the truth for the matches (m,).
    """

    boxes: Tensor
    labels: Tensor
    deltas: Tensor
    truth: Tensor


def sample_regions(
    proposals: Tensor,
    truth: Tensor,
    labels: Tensor,
    *,
    background: int,
    settings: TwoStageSettings,
    generator: torch.Generator,
    stds: tuple[float, float, float, float] = STDS,
    match: float = MATCH,
    share: float = SHARE,
) -> RegionTargets:
    """Draws from the proposals and the true boxes, which are proposals too while training.

    Args:
        proposals: Boxes (N, 4) of one image.
        truth: Its annotated boxes (G, 4).
        labels: Their classes (G,).
        background: Column of the background.
        settings: Sample size and matching.
        generator: Source of the draw.
        stds: Scale of the offsets.
        match: Overlap that makes a proposal a match.
        share: Largest share of matches in the sample.
    """
    boxes = torch.cat([truth, proposals])
    iou_GR = box_iou(truth, boxes)
    matched_R = match_boxes(iou_GR, high=match, low=match, rescue=match if settings.rescue_regions else None)
    matches, others = draw_sample(matched_R, count=settings.roi_samples, share=share, generator=generator)
    rows = torch.cat([matches, others])
    wanted = torch.full((len(rows),), background, dtype=torch.long, device=rows.device)
    wanted[: len(matches)] = labels[matched_R[matches]]
    return RegionTargets(
        boxes=boxes[rows],
        labels=wanted,
        deltas=encode_boxes(boxes[matches], truth[matched_R[matches]], stds=stds),
        truth=matched_R[matches],
    )


def mask_targets(masks_GHW: Tensor, boxes: Tensor, truth: Tensor, *, side: int) -> Tensor:
    """Masks of the matched truths, cut out by the boxes and brought to `side` x `side` cells.

    Args:
        masks_GHW: Boolean masks of the image's truths.
        boxes: `xyxy` (m, 4) in canvas pixels.
        truth: Row of the mask that belongs to each box (m,).
        side: Cells a side.

    Returns:
        Targets (m, side, side), 0 or 1.
    """
    if not len(boxes):
        return boxes.new_zeros(0, side, side)
    rois_R5 = torch.cat([truth[:, None].to(boxes), boxes], dim=1)
    cut: Tensor = roi_align(masks_GHW[:, None].to(boxes), rois_R5, (side, side), 1.0, sampling_ratio=-1, aligned=True)
    return (cut[:, 0] >= 0.5).to(boxes)
