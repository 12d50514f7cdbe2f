"""Semantic segmentation scored from one confusion matrix: mIoU, fwIoU, mean and overall accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticScores:
    """All numbers in percent.

    Attributes:
        miou: Mean IoU over the classes that the ground truth holds.
        fwiou: IoU weighted by how many pixels a class has.
        macc: Mean accuracy over the same classes.
        pacc: Share of all labelled pixels.
        iou_K: IoU of each class; NaN where the ground truth has none.
        acc_K: Accuracy of each class; NaN where the ground truth has none.
        pixels_K: Labelled pixels of each class.
    """

    miou: float
    fwiou: float
    macc: float
    pacc: float
    iou_K: Tensor
    acc_K: Tensor
    pixels_K: Tensor

    def mean_over(self, classes: Sequence[int]) -> tuple[float, float]:
        """Mean IoU and mean accuracy over some of the classes, those without ground truth left out."""
        chosen = torch.as_tensor(list(classes), dtype=torch.long)
        occur = chosen[self.pixels_K[chosen] > 0]
        if not len(occur):
            return float("nan"), float("nan")
        return float(self.iou_K[occur].mean()), float(self.acc_K[occur].mean())


class ConfusionMatrix:
    """Accumulates label maps, then computes; counts are exact integers.

    Source: the semantic evaluator that CAT-Seg and SAN use. A class that is predicted but absent from the ground truth
    is left out of the means; its pixels still count against the true classes. Predictions on ignored pixels count
    nowhere.

    Args:
        num_classes: Size of the vocabulary.
        ignore_label: Ground truth that counts nowhere; labels outside the classes are refused.

    Raises:
        ValueError: There are more than 255 classes, and 255 is ignored.
    """

    def __init__(self, num_classes: int, *, ignore_label: int = 255) -> None:
        if ignore_label == 255 < num_classes:
            raise ValueError(f"255 is one of the {num_classes} classes; pass another ignore_label, such as 65535")
        self.num_classes, self.ignore_label = num_classes, ignore_label
        self.counts_KK = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        """Rows are true classes, columns predicted ones."""

    def update(self, predicted_HW: Tensor | ArrayLike, labels_HW: Tensor | ArrayLike) -> None:
        """Adds one label map, or a batch of them.

        Args:
            predicted_HW: Index of the predicted class; any shape.
            labels_HW: True class or the ignore label; the same shape.

        Raises:
            ValueError: The shapes differ, or a value is outside the classes.
        """
        predicted_HW, labels_HW = (
            one if isinstance(one, Tensor) else torch.from_numpy(np.array(one)) for one in (predicted_HW, labels_HW)
        )  # arrays, lists and opened label maps too
        if predicted_HW.shape != labels_HW.shape:
            raise ValueError(
                f"a prediction of {tuple(predicted_HW.shape)} cannot be compared with labels of "
                f"{tuple(labels_HW.shape)}; resize the scores to the labels ahead of the argmax"
            )
        labels_HW = labels_HW.long()  # of bytes, 65535 would be 255
        counted = labels_HW != self.ignore_label
        predicted, labels = predicted_HW[counted].long(), labels_HW[counted]
        for values, what in ((predicted, "predicted"), (labels, "labelled")):
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < self.num_classes:
                wrong = values[(values < 0) | (values >= self.num_classes)][0]
                raise ValueError(
                    f"{what} class {int(wrong)} is outside the {self.num_classes} classes; is the vocabulary that of "
                    f"the data, and {self.ignore_label} its ignore label?"
                )
        flat = labels * self.num_classes + predicted
        self.counts_KK += torch.bincount(flat, minlength=self.num_classes**2).reshape_as(self.counts_KK).cpu()

    def __getstate__(self) -> tuple[int, int, Tensor]:
        """On its way to another process only what was counted: of a thousand classes a picture shows a few."""
        return self.num_classes, self.ignore_label, self.counts_KK.to_sparse()

    def __setstate__(self, state: tuple[int, int, Tensor]) -> None:
        self.num_classes, self.ignore_label, counts = state
        self.counts_KK = counts.to_dense()

    def merge(self, other: "ConfusionMatrix") -> None:
        """Adds what another one has counted."""
        self.counts_KK += other.counts_KK

    def compute(self) -> SemanticScores:
        """The scores; NaN where nothing was labelled."""
        counts = self.counts_KK.double()
        hits, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
        occurs = true > 0
        iou = torch.where(occurs, 100 * hits / (true + predicted - hits).clamp(min=1), torch.nan)
        acc = torch.where(occurs, 100 * hits / true.clamp(min=1), torch.nan)
        share = true / true.sum()
        return SemanticScores(
            miou=float(iou[occurs].mean()),
            fwiou=float((iou * share)[occurs].sum()) if occurs.any() else float("nan"),
            macc=float(acc[occurs].mean()),
            pacc=float(100 * hits.sum() / true.sum()),
            iou_K=iou,
            acc_K=acc,
            pixels_K=self.counts_KK.sum(1),
        )
