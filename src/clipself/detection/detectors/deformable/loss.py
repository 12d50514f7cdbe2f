"""What the losses of detectors on a deformable DETR share: matching, boxes, and the encoder's proposals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from clipself.detection.detectors.deformable.network import BoxSet
from clipself.detection.detectors.deformable.settings import DeformableSettings
from clipself.losses.assignment import Match, match
from clipself.losses.set_prediction import Focal, SetWeights, box_losses, set_costs


@dataclass(frozen=True, kw_only=True, slots=True)
class SetLoss:
    """Constants, and what does not depend on how classes are told apart.

    Attributes:
        costs: Of the matching.
        weights: Of the losses.
        focal: Of the class term, in both.
    """

    costs: SetWeights = field(default_factory=lambda: SetWeights(classes=3.0, box=5.0, overlap=2.0))
    weights: SetWeights = field(default_factory=lambda: SetWeights(classes=3.0, box=5.0, overlap=2.0))
    focal: Focal = field(default_factory=Focal)

    def cost(self, logits: Tensor, boxes_Q4: Tensor, truth_N4: Tensor) -> Tensor:
        """What it costs each query to answer for each box (Q, N).

        Args:
            logits: Of each query (Q,), or of each query for each box's class (Q, N).
            boxes_Q4: Predicted `cxcywh` in shares of the picture.
            truth_N4: Boxes of the picture, likewise.
        """
        class_cost = self.focal.cost(logits.detach().float())
        class_cost = class_cost[:, None] if class_cost.ndim == 1 else class_cost
        return set_costs(class_cost, boxes_Q4.detach(), truth_N4, weights=self.costs)

    def match_all(self, proposals: BoxSet, index: int, truth_N4: Tensor) -> Match:
        """All boxes of a picture among all its proposals, whatever their class."""
        return match(self.cost(proposals.logits_BN[index], proposals.boxes_BN4[index], truth_N4))

    def proposal_terms(self, proposals: BoxSet, truths: Sequence[Tensor]) -> dict[str, Tensor]:
        """Sums of the class-free terms of the encoder's proposals."""
        matches = [self.match_all(proposals, index, truth_N4) for index, truth_N4 in enumerate(truths)]
        wanted_BN = torch.zeros_like(proposals.logits_BN, dtype=torch.float32)
        for wanted_N, pair in zip(wanted_BN, matches, strict=True):
            wanted_N[pair.queries_M] = 1.0
        classes = self.focal.loss(proposals.logits_BN.float(), wanted_BN).sum()
        return {"classes": classes, **box_terms(proposals.boxes_BN4, matches, truths)}

    def weigh(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each term times its weight; a name is a kind and what it belongs to."""
        weights = self.weights_of_kinds()
        return {name: weights[name.split("_")[0]] * value for name, value in terms.items()}

    def weights_of_kinds(self) -> dict[str, float]:
        """Kind of a term -> its weight."""
        return {"classes": self.weights.classes, "box": self.weights.box, "overlap": self.weights.overlap}


def box_terms(boxes_BN4: Tensor, matches: Sequence[Match], truths: Sequence[Tensor]) -> dict[str, Tensor]:
    """Sums of L1 distance and generalised IoU over the matched pairs of all pictures."""
    mine = torch.cat([boxes[pair.queries_M] for boxes, pair in zip(boxes_BN4, matches, strict=True)])
    truth = torch.cat([truth_N4[pair.targets_M] for truth_N4, pair in zip(truths, matches, strict=True)])
    box, overlap = box_losses(mine.float(), truth)
    return {"box": box, "overlap": overlap}


def names_of_layers(layers: int) -> list[str]:
    """What stands behind the terms of each layer: nothing behind those of the last one."""
    return [*(f"_{index}" for index in range(layers - 1)), ""]


def summed_by_kind(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Terms of all layers -> one a kind, and one for the proposals."""
    kinds: dict[str, Tensor] = {}
    for name, value in terms.items():
        kind = "proposals" if name.endswith("_proposals") else name.split("_")[0]
        kinds[kind] = kinds[kind] + value if kind in kinds else value
    return kinds


def costs_of(settings: DeformableSettings) -> SetWeights:
    """Weights of the matching."""
    return SetWeights(classes=settings.cost_classes, box=settings.cost_box, overlap=settings.cost_overlap)


def weights_of(settings: DeformableSettings) -> SetWeights:
    """Weights of the losses."""
    return SetWeights(classes=settings.weight_classes, box=settings.weight_box, overlap=settings.weight_overlap)


def focal_of(settings: DeformableSettings) -> Focal:
    """The focal loss."""
    return Focal(alpha=settings.focal_alpha, gamma=settings.focal_gamma)
