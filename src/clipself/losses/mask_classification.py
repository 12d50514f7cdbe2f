"""Mask classification: match predicted masks with labelled ones, then score classes and masks.

Source: Mask2Former (arXiv:2112.01527), as SAN, ODISE and FC-CLIP use it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from clipself.structures import MaskTargets

OVERSAMPLE: Final = 3.0
"""Candidate points for each point that is kept (PointRend)."""
UNCERTAIN_SHARE: Final = 0.75
"""Share of the points taken where the mask is least certain; the rest is uniform."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """Which prediction answers for which target, in ascending order of the predictions.

    Attributes:
        queries_M: Index of the prediction.
        targets_M: Index of the target.
    """

    queries_M: Tensor
    targets_M: Tensor


def sample_points(maps_NHW: Tensor, points: Tensor) -> Tensor:
    """Reads maps bilinearly at relative places; beyond the border lies zero.

    Args:
        maps_NHW: Maps (N, H, W).
        points: Places `xy` in [0, 1]; (P, 2) for all maps alike, or (N, P, 2) for each map its own.

    Returns:
        Values (N, P).
    """
    grid = 2 * points.to(maps_NHW) - 1
    if points.ndim == 2:  # maps as channels of one picture: one look-up serves all of them
        return F.grid_sample(maps_NHW[None], grid[None, :, None], align_corners=False)[0, :, :, 0]
    return F.grid_sample(maps_NHW[:, None], grid[:, :, None], align_corners=False)[:, 0, :, 0]


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


def match(cost_QN: Tensor) -> Match:
    """The assignment of least total cost (Hungarian algorithm).

    Raises:
        FloatingPointError: A cost is not finite, so the predictions are not.
    """
    if not torch.isfinite(cost_QN).all():
        raise FloatingPointError(
            "predicted logits are NaN or infinite, so they cannot be matched; lower the learning rate or use "
            "precision='fp32'"
        )
    queries, targets = linear_sum_assignment(cost_QN.cpu().numpy())
    return Match(
        queries_M=torch.as_tensor(queries, device=cost_QN.device),
        targets_M=torch.as_tensor(targets, device=cost_QN.device),
    )


def class_loss(logits_BQK: Tensor, labels: Sequence[Tensor], matches: Sequence[Match], *, no_object: float) -> Tensor:
    """Cross entropy of all predictions, a weighted mean in which "no object" counts less.

    Args:
        logits_BQK: Class logits (B, Q, K + 1).
        labels: For each image the labels of its targets.
        matches: For each image its match.
        no_object: Weight of predictions without a target; those with one weigh 1.
    """
    empty = logits_BQK.shape[-1] - 1
    wanted_BQ = torch.full(logits_BQK.shape[:2], empty, dtype=torch.long, device=logits_BQK.device)
    for wanted_Q, labels_N, found in zip(wanted_BQ, labels, matches, strict=True):
        wanted_Q[found.queries_M] = labels_N[found.targets_M]
    weight = logits_BQK.new_ones(empty + 1, dtype=torch.float32)
    weight[empty] = no_object
    return F.cross_entropy(logits_BQK.float().transpose(1, 2), wanted_BQ, weight)


def mask_losses(logits_MP: Tensor, truth_MP: Tensor, *, num_masks: float) -> tuple[Tensor, Tensor]:
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


@torch.no_grad()
def uncertain_points(logits_MYX: Tensor, num_points: int) -> Tensor:
    """Draws places for each mask, most of them where it is nearest to undecided.

    Source: PointRend (arXiv:1912.08193), Sec. 3.1.

    Args:
        logits_MYX: Mask logits.
        num_points: Places for each mask.

    Returns:
        Places (M, P, 2), `xy` in [0, 1].
    """
    count, uncertain = len(logits_MYX), int(UNCERTAIN_SHARE * num_points)
    drawn = torch.rand(count, int(OVERSAMPLE * num_points), 2, device=logits_MYX.device)
    doubt = -sample_points(logits_MYX.float(), drawn).abs()
    kept = doubt.topk(uncertain, dim=1).indices
    near = drawn.gather(1, kept[..., None].expand(-1, -1, 2))
    return torch.cat([near, torch.rand(count, num_points - uncertain, 2, device=logits_MYX.device)], dim=1)


class MaskClassificationLoss:
    """The three terms, matched afresh for every set of predictions.

    Points are drawn from torch's global generator, whose state a resumed run restores.

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

    def match(
        self, predictions: MaskPredictions, targets: Sequence[MaskTargets], *, points_BP2: Tensor | None = None
    ) -> list[Match]:
        """Matches every image.

        Args:
            predictions: One set.
            targets: For each image its labelled masks.
            points_BP2: Places for each image; drawn uniformly if not given.
        """
        logits_BQK, masks_BQYX = predictions.logits_BQK, predictions.masks_BQYX
        if points_BP2 is None:
            points_BP2 = torch.rand(len(targets), self.num_points, 2, device=masks_BQYX.device)
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
        num_masks: float | None = None,
    ) -> dict[str, Tensor]:
        """The unweighted terms of one set.

        Args:
            predictions: One set.
            targets: For each image its labelled masks.
            matches: For each image its match.
            points_MP2: Places for each matched mask, ordered by image, then by prediction; drawn if not given.
            num_masks: What mask terms are divided by; the number of targets (at least 1) if not given.

        Returns:
            "class", "mask" and "dice"; without targets the last two are zero and still reach every prediction.
        """
        if num_masks is None:
            num_masks = max(1, sum(map(len, targets)))
        pairs = list(zip(predictions.masks_BQYX, targets, matches, strict=True))
        logits_MYX = torch.cat([masks_QYX[found.queries_M] for masks_QYX, _, found in pairs]).float()
        if points_MP2 is None:
            points_MP2 = uncertain_points(logits_MYX.detach(), self.num_points)
        counts = [len(found.queries_M) for _, _, found in pairs]
        truth_MP = torch.cat(
            [
                sample_points(target.masks_NHW[found.targets_M].float(), points)
                for (_, target, found), points in zip(pairs, torch.split(points_MP2, counts), strict=True)
            ]
        )
        entropy, dice = mask_losses(sample_points(logits_MYX, points_MP2), truth_MP, num_masks=num_masks)
        labels = [target.labels_N for target in targets]
        return {
            "class": class_loss(predictions.logits_BQK, labels, matches, no_object=self.no_object),
            "mask": entropy,
            "dice": dice,
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the terms of one set."""
        weights = self.weights
        return weights.classes * terms["class"] + weights.mask * terms["mask"] + weights.dice * terms["dice"]

    def __call__(
        self,
        predictions: Sequence[MaskPredictions],
        targets: Sequence[MaskTargets],
        *,
        num_masks: float | None = None,
    ) -> Tensor:
        """The loss over all sets: deep supervision weighs each layer as the last.

        Args:
            predictions: The final set and those of the layers before it, in any order.
            targets: For each image its labelled masks.
            num_masks: What mask terms are divided by; the number of targets (at least 1) if not given.

        Raises:
            FloatingPointError: A prediction is not finite.
            ValueError: There are no predictions, or targets for another number of images.
        """
        if not predictions or any(len(one.logits_BQK) != len(targets) for one in predictions):
            raise ValueError(
                f"{len(predictions)} sets of predictions for {[len(one.logits_BQK) for one in predictions]} images and "
                f"targets for {len(targets)}; pass at least one set, with one MaskTargets an image"
            )
        losses = [
            self.total(self.terms(one, targets, self.match(one, targets), num_masks=num_masks)) for one in predictions
        ]
        return torch.stack(losses).sum()
