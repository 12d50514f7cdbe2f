"""Which proposals a step learns from, and what they should say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, roi_align

from clipself.detection.detectors.two_stage.settings import TwoStageSettings
from clipself.layers.region_heads import MaskHead
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
    return draw_regions(
        proposals, truth, labels, background=background, count=settings.roi_samples, generator=generator,
        encode=partial(encode_boxes, stds=stds), match=match, share=share,
        rescue=match if settings.rescue_regions else None,
    )  # fmt: skip


def draw_regions(
    proposals: Tensor,
    truth: Tensor,
    labels: Tensor,
    *,
    background: int,
    count: int,
    generator: torch.Generator,
    encode: Callable[[Tensor, Tensor], Tensor],
    match: float = MATCH,
    share: float = SHARE,
    rescue: float | None = None,
) -> RegionTargets:
    """As `sample_regions`, for detectors with another code of boxes.

    Args:
        proposals: See there.
        truth: See there.
        labels: See there.
        background: See there.
        count: How many are drawn, if there are as many.
        generator: See there.
        encode: (boxes, their truths) -> offsets.
        match: See there.
        share: See there.
        rescue: See `match_boxes`.
    """
    boxes = torch.cat([truth, proposals])
    matched_R = match_boxes(box_iou(truth, boxes), high=match, low=match, rescue=rescue)
    matches, others = draw_sample(matched_R, count=count, share=share, generator=generator)
    rows = torch.cat([matches, others])
    wanted = torch.full((len(rows),), background, dtype=torch.long, device=rows.device)
    wanted[: len(matches)] = labels[matched_R[matches]]
    return RegionTargets(
        boxes=boxes[rows],
        labels=wanted,
        deltas=encode(boxes[matches], truth[matched_R[matches]]),
        truth=matched_R[matches],
    )


def mask_loss(
    head: MaskHead,
    pool: Callable[[Sequence[Tensor]], Tensor],
    targets: Sequence[RegionTargets],
    masks: Sequence[Tensor] | None,
) -> Tensor:
    """Binary cross entropy of the matched regions' masks: for each image the mean over its cells, summed.

    Args:
        head: Pooled regions -> logits.
        pool: Boxes of each image -> their pooled regions, in float32.
        targets: Regions of each image.
        masks: The boolean masks (G, H, W) of each image's truths.

    Raises:
        ValueError: There are no masks.
    """
    if masks is None:
        raise ValueError(
            "the mask head needs masks, but these annotations hold none; use mask_convs=0 (--detector.mask-convs 0)"
        )
    matched = [target.boxes[: len(target.truth)] for target in targets]
    with torch.autocast(targets[0].boxes.device.type, enabled=False):
        pooled = pool(matched)
    logits_Ryx = head(pooled).float()
    total: Tensor = logits_Ryx.sum() * 0
    split = torch.split(logits_Ryx, [len(boxes) for boxes in matched])
    for logits, boxes, target, whole in zip(split, matched, targets, masks, strict=True):
        if len(boxes):
            wanted = mask_targets(whole, boxes, target.truth, side=logits.shape[-1])
            total = total + F.binary_cross_entropy_with_logits(logits, wanted)
    return total


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
