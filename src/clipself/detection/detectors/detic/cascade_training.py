"""What the cascade learns from: boxes that are matched anew at each stage, or labels of whole images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from clipself.detection.detectors.detic.cascade import CascadeHeads, StagePass
from clipself.detection.detectors.two_stage.regions import SHARE, mask_targets
from clipself.losses.region_classes import sigmoid_class_loss
from clipself.ops.deltas import encode_boxes
from clipself.ops.matching import draw_sample, match_boxes


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """The annotated boxes of one image.

    Attributes:
        boxes: (G, 4) in pixels of the batch.
        labels: Column of each one's class (G,).
    """

    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class StageTargets:
    """What the boxes of one image at one stage should say.

    Attributes:
        boxes: (r, 4).
        labels: Column of each one's class (r,), the background's for those without a match.
        matched: Row of its truth (r,), negative without one.
        truth: Boxes of the truth (G, 4).
    """

    boxes: Tensor
    labels: Tensor
    matched: Tensor
    truth: Tensor

    @property
    def is_match(self) -> Tensor:
        """Boxes (r,) that have a truth."""
        return self.matched >= 0

    def only(self, rows: Tensor) -> "StageTargets":
        """Some of the boxes."""
        return StageTargets(
            boxes=self.boxes[rows], labels=self.labels[rows], matched=self.matched[rows], truth=self.truth
        )


def label_boxes(boxes: Tensor, truth: Truth, *, background: int, iou: float) -> StageTargets:
    """Gives each box the truth that it overlaps most, if by `iou` at least."""
    matched = match_boxes(box_iou(truth.boxes, boxes), high=iou, low=iou)
    labels = torch.full_like(matched, background)
    labels[matched >= 0] = truth.labels[matched[matched >= 0]]
    return StageTargets(boxes=boxes, labels=labels, matched=matched, truth=truth.boxes)


def sample_boxes(
    proposals: Tensor, truth: Truth, *, background: int, iou: float, count: int, generator: torch.Generator
) -> StageTargets:
    """What the first stage learns from: `count` of the proposals and the true boxes of an image, drawn at random."""
    targets = label_boxes(torch.cat([proposals, truth.boxes]), truth, background=background, iou=iou)
    matches, others = draw_sample(targets.matched, count=count, share=SHARE, generator=generator)
    return targets.only(torch.cat([matches, others]))


def keep_areas(boxes: Tensor) -> Tensor:
    """Boxes without those that clipping left no area."""
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]


def train_stages(
    heads: CascadeHeads, maps: Sequence[Tensor], boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]], *,
    rows_KD: Tensor | None = None,
) -> list[StagePass]:  # fmt: skip
    """All stages while training: boxes that a stage loses are dropped ahead of the next."""
    passes, current = [], list(boxes)
    for stage in range(heads.own.stages):
        passes.append(heads.run_stage(stage, maps, current, rows_KD=rows_KD))
        current = [keep_areas(one) for one in heads.refined(passes[-1], stage, sizes)]
    return passes


def region_losses(
    seen: StagePass, targets: Sequence[StageTargets], *, stds: tuple[float, float, float, float],
    weights_RC: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Losses of each box at one stage: of its classes (R,) and, where it has a truth, of its offsets (R,).

    Source: Detic (arXiv:2201.02605), released code: binary cross entropy summed over the classes, absolute differences
    summed over the four offsets; both to be divided by the number of boxes.

    Args:
        seen: What the stage made of the boxes.
        targets: Of each image, of the same boxes.
        stds: Scale of the stage's offsets.
        weights_RC: Weight of each box and class, of a federated draw; all 1 if not given.
    """
    labels_R = torch.cat([one.labels for one in targets])
    classes_R = sigmoid_class_loss(seen.logits_RK, labels_R, weights_K=weights_RC)
    wanted = []
    for one in targets:
        offsets_r4 = one.boxes.new_zeros(len(one.boxes), 4)
        rows = one.is_match
        offsets_r4[rows] = encode_boxes(one.boxes[rows], one.truth[one.matched[rows]], stds=stds)
        wanted.append(offsets_r4)
    is_match_R = torch.cat([one.is_match for one in targets])
    offsets_R = (seen.offsets_R4 - torch.cat(wanted)).abs().sum(1) * is_match_R
    return classes_R, offsets_R


def mask_losses(
    heads: CascadeHeads, maps: Sequence[Tensor], targets: Sequence[StageTargets], masks: Sequence[Tensor]
) -> Tensor:
    """Binary cross entropy of the masks of matched boxes: for each image (B,) the mean over its cells.

    Args:
        heads: With a mask head.
        maps: The pyramid.
        targets: Of the first stage.
        masks: For each image those of its truths, boolean (G, H, W).
    """
    assert heads.mask_head is not None
    matches = [one.only(one.is_match) for one in targets]
    logits_Ryx = heads.mask_head(heads.pool(maps, [one.boxes for one in matches], heads.own.mask_bins)).float()
    terms = []
    for logits, one, masks_GHW in zip(
        torch.split(logits_Ryx, [len(one.boxes) for one in matches]), matches, masks, strict=True
    ):
        wanted = mask_targets(masks_GHW, one.boxes, one.matched, side=2 * heads.own.mask_bins)
        terms.append(F.binary_cross_entropy_with_logits(logits, wanted) if len(wanted) else logits.sum())
    return torch.stack(terms)
