"""Which anchor answers for which object, and what the localiser loses by it.

Source: CORA (arXiv:2303.13076), Sec. 3.3, class-aware matching; terms and constants are the released ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou

from clipself.detection.detectors.cora.localiser import Predictions
from clipself.losses.assignment import Match, match
from clipself.losses.set_prediction import Focal, SetWeights, box_losses, corners, set_costs

FORBIDDEN = 99.0
"""Cost of a pair that may not be; a pair that costs as much is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Objects:
    """What is in one picture.

    Attributes:
        boxes_N4: `cxcywh` in [0, 1].
        labels_N: Class of each.
    """

    boxes_N4: Tensor
    labels_N: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class SetCriterion:
    """Costs and losses of sets of boxes with one objectness each.

    Attributes:
        costs: Weights of the matching.
        weights: Weights of the losses.
        first_stage_class: Weight of objectness in the matching of the first stage.
        focal: Constants of the focal terms.
        groups_K: Group of each class; anchors answer for any class of theirs. None where each class is its own.
    """

    costs: SetWeights = field(default_factory=SetWeights)
    weights: SetWeights = field(default_factory=SetWeights)
    first_stage_class: float = 2.0
    focal: Focal = field(default_factory=Focal)
    groups_K: Tensor | None = None

    def match(self, predictions: Predictions, objects: Sequence[Objects], classes_BQ: Tensor) -> list[Match]:
        """Pairs of each picture: an anchor answers for objects of the class that it looks for.

        An object that no such anchor comes near to, by a generalised IoU above 0, is left out.

        Args:
            predictions: Of one layer.
            objects: Of each picture.
            classes_BQ: Class that each anchor looks for; (B, Q, k) where it is one of several.
        """
        pairs = []
        for image, one in enumerate(objects):
            sought_QkN = self._group(classes_BQ[image]).reshape(len(classes_BQ[image]), -1, 1)
            allowed_QN = (sought_QkN == self._group(one.labels_N)).any(1)
            boxes_Q4 = predictions.boxes_BQ4[image].detach().float()
            near_QN = generalized_box_iou(corners(boxes_Q4), corners(one.boxes_N4)) > 0
            cost_QN = self._costs(predictions, image, one, self.costs).where(allowed_QN, FORBIDDEN)
            left = (near_QN & allowed_QN).any(0).nonzero()[:, 0]
            found = match(cost_QN[:, left])
            kept = cost_QN[found.queries_M, left[found.targets_M]] < FORBIDDEN
            pairs.append(Match(queries_M=found.queries_M[kept], targets_M=left[found.targets_M[kept]]))
        return pairs

    def match_first_stage(self, predictions: Predictions, objects: Sequence[Objects]) -> list[Match]:
        """Pairs of each picture, whatever the classes."""
        costs = replace(self.costs, classes=self.first_stage_class)
        return [match(self._costs(predictions, image, one, costs)) for image, one in enumerate(objects)]

    def losses(self, predictions: Predictions, objects: Sequence[Objects], pairs: Sequence[Match]) -> dict[str, Tensor]:
        """Sums of the three terms, not weighed: objectness of all anchors, boxes and overlap of the matched ones."""
        wanted_BQ = torch.zeros_like(predictions.logits_BQ)
        mine, theirs = [], []
        for image, (one, found) in enumerate(zip(objects, pairs, strict=True)):
            wanted_BQ[image, found.queries_M] = 1.0
            mine.append(predictions.boxes_BQ4[image, found.queries_M])
            theirs.append(one.boxes_N4[found.targets_M])
        box, overlap = box_losses(torch.cat(mine).float(), torch.cat(theirs).float())
        objectness = self.focal.loss(predictions.logits_BQ.float(), wanted_BQ.float()).sum()
        return {"objectness": objectness, "boxes": box, "overlap": overlap}

    def weigh(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The three terms as they count."""
        weights = {"objectness": self.weights.classes, "boxes": self.weights.box, "overlap": self.weights.overlap}
        return {name: weights[name] * loss for name, loss in losses.items()}

    def _group(self, classes: Tensor) -> Tensor:
        return classes if self.groups_K is None else self.groups_K.to(classes.device)[classes]

    def _costs(self, predictions: Predictions, image: int, one: Objects, weights: SetWeights) -> Tensor:
        class_cost_Q1 = self.focal.cost(predictions.logits_BQ[image].detach().float())[:, None]
        return set_costs(class_cost_Q1, predictions.boxes_BQ4[image].detach(), one.boxes_N4, weights=weights)


def count_pairs(pairs: Sequence[Match]) -> int:
    """Matched anchors of a batch."""
    return sum(len(found.queries_M) for found in pairs)
