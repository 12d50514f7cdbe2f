"""Mask classification: match predicted masks with labelled ones, then score classes and masks.

Source: Mask2Former (arXiv:2112.01527), as SAN, ODISE and FC-CLIP use it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.losses.assignment import Match, match
from clipself.losses.mask_points import draw_points, sample_points, uncertain_points
from clipself.structures import MaskTargets


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskPredictions:
    """One set of predictions: the final one, or that of a layer under deep supervision.

    Attributes:
        logits_BQK: Class logits (B, Q, K + 1); the last column is "no object".
        masks_BQYX: Mask logits (B, Q, Y, X).
    """

    logits_BQK: Tensor
    masks_BQYX: Tensor

    def __post_init__(self) -> None:
        if (
            self.logits_BQK.ndim != 3
            or self.masks_BQYX.ndim != 4
            or self.logits_BQK.shape[:2] != self.masks_BQYX.shape[:2]
        ):
            raise ValueError(
                f"logits {tuple(self.logits_BQK.shape)} and masks {tuple(self.masks_BQYX.shape)} do not belong "
                "together; expected (B, Q, K + 1) and (B, Q, Y, X)"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TermWeights:
    """How much each of the three terms counts, in matching and in the loss alike.

    Attributes:
        classes: Cross entropy of the class.
        mask: Binary cross entropy at points.
        dice: Dice at points.
    """

    classes: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


@torch.no_grad()
def match_costs(
    logits_QK: Tensor, masks_QYX: Tensor, targets: MaskTargets, points_P2: Tensor, *, weights: TermWeights
) -> Tensor:
    """What it would cost each prediction to answer for each target of one image.

    Args:
        logits_QK: Class logits (Q, K + 1), "no object" last.
        masks_QYX: Mask logits (Q, Y, X).
        targets: Labelled masks of the image.
        points_P2: Places at which masks are compared, `xy` in [0, 1].
        weights: Of the three terms.

    Returns:
        Costs (Q, N), float32.
    """
    probabilities = logits_QK.float().softmax(-1)
    logits_QP = sample_points(masks_QYX.float(), points_P2)
    truth_NP = sample_points(targets.masks_NHW.float(), points_P2)
    as_mask = F.softplus(-logits_QP) @ truth_NP.T + F.softplus(logits_QP) @ (1 - truth_NP).T
    soft_QP = logits_QP.sigmoid()
    overlap = 2 * soft_QP @ truth_NP.T
    size = soft_QP.sum(1)[:, None] + truth_NP.sum(1)[None]
    cost: Tensor = (
        weights.classes * -probabilities[:, targets.labels_N]
        + weights.mask * as_mask / len(points_P2)
        + weights.dice * (1 - (overlap + 1) / (size + 1))
    )
    return cost


def class_loss(
    logits_BQK: Tensor,
    labels: Sequence[Tensor],
    matches: Sequence[Match],
    *,
    no_object: float,
    class_weight: Tensor | float | None = None,
) -> Tensor:
    """Cross entropy of all predictions, a weighted mean in which "no object" counts less.

    Args:
        logits_BQK: Class logits (B, Q, K + 1).
        labels: For each image the labels of its targets.
        matches: For each image its match.
        no_object: Weight of predictions without a target; those with one weigh 1.
        class_weight: What the weighted sum is divided by; the weights of these predictions if not given.
    """
    empty = logits_BQK.shape[-1] - 1
    wanted_BQ = torch.full(logits_BQK.shape[:2], empty, dtype=torch.long, device=logits_BQK.device)
    for wanted_Q, labels_N, found in zip(wanted_BQ, labels, matches, strict=True):
        wanted_Q[found.queries_M] = labels_N[found.targets_M]
    weight = logits_BQK.new_ones(empty + 1, dtype=torch.float32)
    weight[empty] = no_object
    if class_weight is None:
        class_weight = weight[wanted_BQ].sum()
    return F.cross_entropy(logits_BQK.float().transpose(1, 2), wanted_BQ, weight, reduction="sum") / class_weight


def mask_losses(logits_MP: Tensor, truth_MP: Tensor, *, num_masks: Tensor | float) -> tuple[Tensor, Tensor]:
    """Binary cross entropy and dice of matched masks at points.

    Args:
        logits_MP: Predicted logits.
        truth_MP: Labelled values in [0, 1].
        num_masks: What the sums over masks are divided by.

    Returns:
        Two scalars: cross entropy, dice.
    """
    entropy = F.binary_cross_entropy_with_logits(logits_MP, truth_MP, reduction="none").mean(1).sum()
    soft = logits_MP.sigmoid()
    dice = 1 - (2 * (soft * truth_MP).sum(1) + 1) / (soft.sum(1) + truth_MP.sum(1) + 1)
    return entropy / num_masks, dice.sum() / num_masks


class MaskClassificationLoss:
    """The three terms, matched afresh for every set of predictions.

    Points are drawn by one generator an image, so that neither the batch nor the process that an image falls into
    changes them; `counts` says what a step over many batches and processes divides by.

    Args:
        weights: Of the three terms, in matching and in the sum.
        no_object: Weight of "no object" in the class term.
        num_points: Points of a mask; 12544 = 112 x 112 as published.

    Raises:
        ValueError: A weight is negative or there are no points.
    """

    def __init__(self, *, weights: TermWeights | None = None, no_object: float = 0.1, num_points: int = 12544) -> None:
        self.weights = weights or TermWeights()
        self.no_object, self.num_points = no_object, num_points
        if min(self.weights.classes, self.weights.mask, self.weights.dice, no_object) < 0 or num_points < 1:
            raise ValueError(
                f"{self.weights}, no_object={no_object} and num_points={num_points}: weights must not be negative and "
                "there must be at least one point"
            )

    def counts(self, targets: Sequence[MaskTargets], *, queries: int) -> dict[str, float]:
        """What the terms of one set are divided by; sums of it serve a step of many batches and processes.

        Args:
            targets: For each image its labelled masks.
            queries: Predictions of an image.

        Returns:
            "masks", and "class_weight": 1 for each matched prediction, `no_object` for each other.
        """
        matched = sum(min(len(one), queries) for one in targets)
        rest = queries * len(targets) - matched
        return {"masks": float(sum(map(len, targets))), "class_weight": matched + self.no_object * rest}

    def match(
        self,
        predictions: MaskPredictions,
        targets: Sequence[MaskTargets],
        *,
        points_BP2: Tensor | None = None,
        generators: Sequence[torch.Generator | None] | None = None,
    ) -> list[Match]:
        """Matches every image.

        Args:
            predictions: One set.
            targets: For each image its labelled masks.
            points_BP2: Places for each image; drawn uniformly if not given.
            generators: Of the chance, one an image; torch's own if not given.
        """
        logits_BQK, masks_BQYX = predictions.logits_BQK, predictions.masks_BQYX
        if points_BP2 is None:
            each = generators or [None] * len(targets)
            points_BP2 = torch.stack([draw_points(self.num_points, like=masks_BQYX, generator=one) for one in each])
        return [
            match(match_costs(logits_QK, masks_QYX, target, points_P2, weights=self.weights))
            for logits_QK, masks_QYX, target, points_P2 in zip(logits_BQK, masks_BQYX, targets, points_BP2, strict=True)
        ]

    def terms(
        self,
        predictions: MaskPredictions,
        targets: Sequence[MaskTargets],
        matches: Sequence[Match],
        *,
        points_MP2: Tensor | None = None,
        generators: Sequence[torch.Generator | None] | None = None,
        totals: Mapping[str, Tensor | float] | None = None,
    ) -> dict[str, Tensor]:
        """The unweighted terms of one set.

        Args:
            predictions: One set.
            targets: For each image its labelled masks.
            matches: For each image its match.
            points_MP2: Places for each matched mask, ordered by image, then by prediction; drawn if not given.
            generators: Of the chance, one an image; torch's own if not given.
            totals: What the sums are divided by, as `counts` gives it; that of these targets if not given.

        Returns:
            "class", "mask" and "dice"; without targets the last two are zero and still reach every prediction.
        """
        if totals is None:
            totals = self.counts(targets, queries=predictions.logits_BQK.shape[1])
        found = [
            masks_QYX[one.queries_M].float() for masks_QYX, one in zip(predictions.masks_BQYX, matches, strict=True)
        ]
        if points_MP2 is None:
            each = generators or [None] * len(targets)
            points = [
                uncertain_points(logits.detach(), self.num_points, generator=one)
                for logits, one in zip(found, each, strict=True)
            ]
        else:
            points = list(torch.split(points_MP2, [len(logits) for logits in found]))
        truth_MP = torch.cat(
            [
                sample_points(target.masks_NHW[one.targets_M].float(), places)
                for target, one, places in zip(targets, matches, points, strict=True)
            ]
        )
        logits_MP = sample_points(torch.cat(found), torch.cat(points))
        num_masks = torch.as_tensor(totals["masks"]).clamp(min=1.0)
        entropy, dice = mask_losses(logits_MP, truth_MP, num_masks=num_masks.to(logits_MP.device))
        labels = [target.labels_N for target in targets]
        weight = torch.as_tensor(totals["class_weight"]).to(logits_MP)
        classes = class_loss(predictions.logits_BQK, labels, matches, no_object=self.no_object, class_weight=weight)
        return {"class": classes, "mask": entropy, "dice": dice}

    def weigh(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms of one set, each times its weight."""
        weights = self.weights
        each = {"class": weights.classes, "mask": weights.mask, "dice": weights.dice}
        return {name: each[name] * term for name, term in terms.items()}

    def shares(
        self,
        predictions: Sequence[MaskPredictions],
        targets: Sequence[MaskTargets],
        *,
        generators: Sequence[torch.Generator] | None = None,
        totals: Mapping[str, Tensor | float] | None = None,
    ) -> dict[str, Tensor]:
        """The weighted terms over all sets: deep supervision weighs each layer as the last.

        Args:
            predictions: The final set and those of the layers before it, in any order.
            targets: For each image its labelled masks.
            generators: Of the chance, one an image; torch's own if not given.
            totals: `counts` summed over the batches and processes of a step; those of these targets if not given.

        Returns:
            "class", "mask" and "dice": this batch's share of the step.

        Raises:
            FloatingPointError: A prediction is not finite.
            ValueError: There are no predictions, or targets for another number of images.
        """
        if not predictions or any(len(one.logits_BQK) != len(targets) for one in predictions):
            raise ValueError(
                f"{len(predictions)} sets of predictions for {[len(one.logits_BQK) for one in predictions]} images and "
                f"targets for {len(targets)}; pass at least one set, with one MaskTargets an image"
            )
        sets = []
        with torch.autocast(predictions[0].masks_BQYX.device.type, enabled=False):  # sums over points need float32
            for one in predictions:
                matches = self.match(one, targets, generators=generators)
                sets.append(self.weigh(self.terms(one, targets, matches, generators=generators, totals=totals)))
        return {name: torch.stack([terms[name] for terms in sets]).sum() for name in sets[0]}

    def __call__(
        self,
        predictions: Sequence[MaskPredictions],
        targets: Sequence[MaskTargets],
        *,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """The loss of one batch by itself: the sum of `shares`."""
        return torch.stack(list(self.shares(predictions, targets, generators=generators).values())).sum()
