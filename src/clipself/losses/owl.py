"""OWL-ViT's set loss: every token predicts, several labels may belong to a box, a picture is scored by itself.

Source: OWL-ViT (arXiv:2205.06230, Sec. 3.2), after DETR and Deformable DETR.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from clipself.losses.assignment import Match, match
from clipself.losses.set_prediction import Focal, SetWeights, corners

EPS: Final = 1e-6
"""Added to union and hull of the generalised IoU, as published."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwlConstants:
    """Constants that cost and loss share.

    Attributes:
        weights: Of the three terms.
        focal: Of the class term.
    """

    weights: SetWeights = field(default_factory=lambda: SetWeights(classes=1.0, box=1.0, overlap=1.0))
    focal: Focal = field(default_factory=lambda: Focal(alpha=0.3, gamma=2.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class OwlTargets:
    """What is in one picture.

    Attributes:
        boxes_M4: `cxcywh` in shares of the canvas.
        labels_MQ: Which of the picture's queries are right for a box, boolean; one or more in each row.
    """

    boxes_M4: Tensor
    labels_MQ: Tensor

    def __post_init__(self) -> None:
        if self.boxes_M4.shape[1:] != (4,) or self.labels_MQ.ndim != 2 or len(self.boxes_M4) != len(self.labels_MQ):
            raise ValueError(
                f"boxes {tuple(self.boxes_M4.shape)} and labels {tuple(self.labels_MQ.shape)} do not belong together; "
                "expected (M, 4) and (M, Q)"
            )

    def counts(self) -> dict[str, Tensor | float]:
        """What the terms of this picture are divided by: right labels, and boxes."""
        return {"labels": self.labels_MQ.sum().float(), "boxes": float(len(self.boxes_M4))}


@torch.no_grad()
def owl_costs(logits_PQ: Tensor, boxes_P4: Tensor, targets: OwlTargets, *, constants: OwlConstants) -> Tensor:
    """What it would cost each token to answer for each box of one picture.

    The class cost is summed over the labels of a box, not averaged; the L1 is of centres and sizes.

    Args:
        logits_PQ: Logits of the picture's queries.
        boxes_P4: Predicted `cxcywh` in shares of the canvas.
        targets: The picture's.
        constants: Of cost and loss.

    Returns:
        Costs (P, M), float32.
    """
    focal, weights, logits = constants.focal, constants.weights, logits_PQ.float()
    sides_PQ = focal.loss(logits, torch.ones_like(logits)) - focal.loss(logits, torch.zeros_like(logits))
    boxes, truth = boxes_P4.float(), targets.boxes_M4.float()
    pairs = (len(boxes), len(truth), 4)
    apart_PM = generalized_box_iou_loss(
        corners(boxes)[:, None].expand(pairs), corners(truth)[None].expand(pairs), reduction="none", eps=EPS
    )
    cost_PM: Tensor = (
        weights.classes * sides_PQ @ targets.labels_MQ.float().T
        + weights.box * torch.cdist(boxes, truth, p=1)
        + weights.overlap * (apart_PM - 1)
    )
    return cost_PM


def owl_sums(
    logits_PQ: Tensor, boxes_P4: Tensor, targets: OwlTargets, found: Match, *, constants: OwlConstants
) -> dict[str, Tensor]:
    """The weighted terms of one picture, summed over tokens and queries: tokens without a box are negatives of all.

    The L1 of the loss is of corners, where that of the cost is of centres and sizes.

    Args:
        logits_PQ: Logits of the picture's queries.
        boxes_P4: Predicted `cxcywh` in shares of the canvas.
        targets: The picture's.
        found: Which token answers for which box.
        constants: Of cost and loss.

    Returns:
        "classes", "boxes" and "overlap".
    """
    logits, weights = logits_PQ.float(), constants.weights
    wanted_PQ = torch.zeros_like(logits)
    wanted_PQ[found.queries_M] = targets.labels_MQ[found.targets_M].float()
    mine, theirs = corners(boxes_P4[found.queries_M].float()), corners(targets.boxes_M4[found.targets_M].float())
    return {
        "classes": weights.classes * constants.focal.loss(logits, wanted_PQ).sum(),
        "boxes": weights.box * F.l1_loss(mine, theirs, reduction="sum"),
        "overlap": weights.overlap * generalized_box_iou_loss(mine, theirs, reduction="sum", eps=EPS),
    }


def match_pictures(
    logits: Sequence[Tensor], boxes: Sequence[Tensor], targets: Sequence[OwlTargets], *, constants: OwlConstants
) -> list[Match]:
    """Which token answers for which box, picture by picture.

    Raises:
        FloatingPointError: A prediction is not finite.
    """
    return [
        match(owl_costs(logits_PQ.detach(), boxes_P4.detach(), target, constants=constants))
        for logits_PQ, boxes_P4, target in zip(logits, boxes, targets, strict=True)
    ]


def owl_shares(
    logits: Sequence[Tensor],
    boxes: Sequence[Tensor],
    targets: Sequence[OwlTargets],
    *,
    constants: OwlConstants | None = None,
    images: Tensor | float | None = None,
    totals: Mapping[str, Tensor | float] | None = None,
    matches: Sequence[Match] | None = None,
) -> dict[str, Tensor]:
    """The terms of some pictures of a step.

    By default a picture is divided by its own labels and boxes, at least 1, and the step is the mean over its pictures:
    one without a box pays its negatives in full. With `totals` all sums are divided by those of the whole step.

    Args:
        logits: For each picture (P, Q) over its own queries.
        boxes: For each picture (P, 4), `cxcywh` in shares of the canvas.
        targets: For each picture what is in it.
        constants: Of cost and loss; the published ones if not given.
        images: Pictures of the whole step; those given if None.
        totals: "labels" and "boxes" of the whole step, instead.
        matches: For each picture which token answers for which box; found here if not given.

    Returns:
        "classes", "boxes" and "overlap": this share of the step.

    Raises:
        FloatingPointError: A prediction is not finite.
        ValueError: There is not one of each for every picture.
    """
    if not len(logits) == len(boxes) == len(targets) or not targets:
        raise ValueError(
            f"{len(logits)} sets of logits, {len(boxes)} of boxes and {len(targets)} of targets; each picture needs "
            "one of each"
        )
    constants, rows = constants or OwlConstants(), []
    share = 1.0 if totals is not None else (len(targets) if images is None else images)
    if matches is None:
        matches = match_pictures(logits, boxes, targets, constants=constants)
    for logits_PQ, boxes_P4, target, found in zip(logits, boxes, targets, matches, strict=True):
        sums = owl_sums(logits_PQ, boxes_P4, target, found, constants=constants)
        counts = totals or target.counts()
        by = {name: torch.as_tensor(counts[name]).to(logits_PQ.device).clamp(min=1.0) * share for name in counts}
        rows.append({name: each / by["labels" if name == "classes" else "boxes"] for name, each in sums.items()})
    return {name: torch.stack([row[name] for row in rows]).sum() for name in rows[0]}
