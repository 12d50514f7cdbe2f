"""What an image's labels teach regions that nobody has boxed: Detic's losses, a rule each.

Source: Detic (arXiv:2201.02605), Sec. 3 and Table 2, and its released code: one region of the image, chosen by size,
place or score, should be the label; its other classes are wrong, other labels of the image among them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.choices import pick

LEAST_SHARE: Final = 1e-10
"""Probability of an image's class below which it is cut, and its distance from 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeakRegions:
    """The regions of an image whose labels are known, but not their boxes.

    Attributes:
        logits_RK: Scores of the regions, best proposal first; the last column is the background.
        boxes_R4: `xyxy`, any unit. The last one may be the box of the whole image.
        votes_RK: Scores of a second branch, by which "wsddn" weighs the regions; None for all other rules.
    """

    logits_RK: Tensor
    boxes_R4: Tensor
    votes_RK: Tensor | None = None


def _terms(logits_RK: Tensor, label: int, *, softmax: bool) -> Tensor:
    """Loss of each region, were it the one (R,)."""
    logits_RK = logits_RK.to(torch.promote_types(logits_RK.dtype, torch.float32))
    if softmax:
        return -logits_RK.log_softmax(1)[:, label]
    wanted_K = torch.zeros_like(logits_RK[0])
    wanted_K[label] = 1.0
    terms_RK = F.binary_cross_entropy_with_logits(logits_RK, wanted_K.expand_as(logits_RK), reduction="none")
    return terms_RK.sum(1)  # over all columns: the background is told to be absent too


def largest(regions: WeakRegions, label: int, terms_R: Tensor) -> int:
    """The largest of all but the last region, which is the place of the whole image's box."""
    del label, terms_R
    if len(regions.boxes_R4) == 1:
        return 0
    sides_R2 = regions.boxes_R4[:-1, 2:] - regions.boxes_R4[:-1, :2]
    return int(sides_R2.prod(1).argmax())


def first(regions: WeakRegions, label: int, terms_R: Tensor) -> int:
    """The best proposal."""
    del regions, label, terms_R
    return 0


def last(regions: WeakRegions, label: int, terms_R: Tensor) -> int:
    """The last region: the whole image."""
    del label, terms_R
    return len(regions.boxes_R4) - 1


def surest(regions: WeakRegions, label: int, terms_R: Tensor) -> int:
    """The region that scores the label highest."""
    del terms_R
    return int(regions.logits_RK[:, label].argmax())


def easiest(regions: WeakRegions, label: int, terms_R: Tensor) -> int:
    """The region whose loss is least."""
    del regions, label
    return int(terms_R.argmin())


Rule = Callable[[WeakRegions, int, Tensor], int]

IMAGE_LABEL_RULES: Final[Mapping[str, Rule | None]] = {
    "max_size": largest,
    "first": first,
    "max_score": surest,
    "min_loss": easiest,
    "image": last,
    "wsddn": None,
}
"""Which region should be the label; None where all of them vote."""


def image_label_loss(
    regions: WeakRegions, labels: Sequence[int], *, rule: str = "max_size", softmax: bool = False
) -> tuple[Tensor, list[int]]:
    """Mean over the labels of one image; 0 where it has no region or no label.

    Args:
        regions: Of the image.
        labels: Column of each label, each once.
        rule: Row of `IMAGE_LABEL_RULES`.
        softmax: Cross entropy over all columns in place of binary ones, for heads whose classes compete.

    Returns:
        The loss, and which region each label chose ("wsddn": whose vote was the largest).

    Raises:
        ValueError: The rule is unknown, or "wsddn" has no second branch.
    """
    choose = pick(IMAGE_LABEL_RULES, rule, what="image_label_loss")
    total: Tensor = regions.logits_RK.float().sum() * 0
    if not len(regions.logits_RK) or not labels:
        return total, []
    chosen = []
    for label in labels:
        if choose is None:
            term, region = _vote(regions, label)
        else:
            terms_R = _terms(regions.logits_RK, label, softmax=softmax)
            region = choose(regions, label, terms_R.detach())
            term = terms_R[region]
        total = total + term / len(labels)
        chosen.append(region)
    return total, chosen


def _vote(regions: WeakRegions, label: int) -> tuple[Tensor, int]:
    """Probability of a class in the image: that of its regions, weighed by the second branch; mean over the columns.

    Source: WSDDN (arXiv:1511.02853), as Detic's released code takes it.
    """
    if regions.votes_RK is None:
        raise ValueError("the rule wsddn weighs regions by a second branch, and this head has none; use max_size")
    share_RK = regions.logits_RK.float().sigmoid() * regions.votes_RK.float().softmax(0)
    image_K = share_RK.sum(0).clamp(LEAST_SHARE, 1 - LEAST_SHARE)
    wanted_K = torch.zeros_like(image_K)
    wanted_K[label] = 1.0
    return F.binary_cross_entropy(image_K, wanted_K), int(share_RK[:, label].argmax())


def column_of_class(classes: Tensor, *, total: int) -> Tensor:
    """Column of every class (total + 1,) in a classifier of some of them; the background's for all others."""
    columns = torch.full((total + 1,), len(classes), dtype=torch.long)
    columns[classes.cpu()] = torch.arange(len(classes))
    return columns
