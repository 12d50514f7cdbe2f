"""Mean class accuracy: every class counts the same, however many regions it has."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassAccuracy:
    """Result for one k.

    Attributes:
        mean: Mean over the classes that occur, in percent.
        per_class_K: Accuracy of each class in percent; NaN where none occurs.
        overall: Share of all regions, in percent.
    """

    mean: float
    per_class_K: Tensor
    overall: float


class MeanClassAccuracy:
    """Accumulates hits, then computes; float64 throughout.

    Source: CLIPSelf (arXiv:2310.01403), Table 2; the release rounds to half precision, this does not.

    Args:
        num_classes: Size of the vocabulary.
        topk: Which k to score; a k above the number of classes counts every region as a hit.
    """

    def __init__(self, num_classes: int, *, topk: Sequence[int] = (1, 5)) -> None:
        self.num_classes, self.topk = num_classes, tuple(topk)
        self.hits = torch.zeros(len(self.topk), num_classes, dtype=torch.float64)
        self.counts = torch.zeros(num_classes, dtype=torch.float64)

    def update(self, logits_RK: Tensor, labels_R: Tensor) -> None:
        """Adds regions.

        Args:
            logits_RK: Scores of every class.
            labels_R: True class of each region.

        Raises:
            ValueError: The scores have another number of classes or hold NaN, or a label is outside them.
        """
        if logits_RK.ndim != 2 or logits_RK.shape[1] != self.num_classes or len(logits_RK) != len(labels_R):
            raise ValueError(
                f"scores {tuple(logits_RK.shape)} and {len(labels_R)} labels do not fit {self.num_classes} classes; "
                "scores are (regions, classes)"
            )
        if len(labels_R) and not 0 <= int(labels_R.min()) <= int(labels_R.max()) < self.num_classes:
            raise ValueError(
                f"labels reach from {int(labels_R.min())} to {int(labels_R.max())}, outside the vocabulary"
            )
        if bool(logits_RK.isnan().any()):
            raise ValueError("scores hold NaN, which cannot be ranked; are the weights finite?")
        ranked = logits_RK.cpu().topk(min(max(self.topk), self.num_classes), dim=1).indices
        labels = labels_R.cpu()
        self.counts += torch.bincount(labels, minlength=self.num_classes).double()
        for row, k in enumerate(self.topk):
            hit = (ranked[:, :k] == labels[:, None]).any(1)
            self.hits[row] += torch.bincount(labels[hit], minlength=self.num_classes).double()

    def merge(self, other: "MeanClassAccuracy") -> None:
        """Adds what another process has counted."""
        self.hits += other.hits
        self.counts += other.counts

    def compute(self) -> dict[int, ClassAccuracy]:
        """The result for each k; the mean is NaN where nothing was counted."""
        occurs = self.counts > 0
        results = {}
        for row, k in enumerate(self.topk):
            per_class = torch.where(occurs, 100 * self.hits[row] / self.counts.clamp(min=1), torch.nan)
            results[k] = ClassAccuracy(
                mean=float(per_class[occurs].mean()) if occurs.any() else float("nan"),
                per_class_K=per_class,
                overall=float(100 * self.hits[row].sum() / self.counts.sum()) if occurs.any() else float("nan"),
            )
        return results
