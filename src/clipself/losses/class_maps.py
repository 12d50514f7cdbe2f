"""Every class of every pixel as a yes or no question."""

from collections.abc import Mapping
from functools import partial
from typing import Final, Literal, Protocol

import torch.nn.functional as F
from torch import Tensor

Ignored = Literal["masked", "negative"]


def class_map_loss(
    logits_BKHW: Tensor,
    labels_BHW: Tensor,
    *,
    ignore_label: int,
    ignored: Ignored = "masked",
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Binary cross entropy of each class at each pixel, averaged over the classes.

    Source: CAT-Seg (arXiv:2303.11797), released training code.

    Args:
        logits_BKHW: Class logits at the resolution of the labels.
        labels_BHW: Index of the true class, or `ignore_label`.
        ignore_label: Pixels that nobody labelled.
        ignored: "masked" leaves those pixels out; "negative" counts them as negatives of every class, as the released
            code does, so that unlabelled things are learnt to be nothing.
        reduction: "mean" over the pixels that count, or their "sum".

    Returns:
        A scalar in float32.

    Raises:
        ValueError: The labels have another size than the logits, or reach beyond the classes.
    """
    classes = logits_BKHW.shape[1]
    if logits_BKHW.shape[:1] + logits_BKHW.shape[2:] != labels_BHW.shape:
        raise ValueError(
            f"logits {tuple(logits_BKHW.shape)} and labels {tuple(labels_BHW.shape)} do not belong together; resize "
            "the logits to the labels first"
        )
    labelled = labels_BHW != ignore_label
    if labelled.any() and int(labels_BHW[labelled].max()) >= classes:
        raise ValueError(f"label {int(labels_BHW[labelled].max())} is outside the {classes} classes of the logits")
    logits = logits_BKHW.float()
    true_BHW = logits.gather(1, labels_BHW.where(labelled, 0)[:, None])[:, 0].where(labelled, 0.0)
    loss_BHW = (F.softplus(logits).sum(1) - true_BHW) / classes  # softplus(x) - y x is the cross entropy of y in {0, 1}
    if ignored == "masked":
        loss_BHW = loss_BHW.where(labelled, 0.0)
    total = loss_BHW.sum()
    if reduction == "sum":
        return total
    return total / (labelled.sum().clamp(min=1) if ignored == "masked" else labelled.numel())


class ClassMapLoss(Protocol):
    """A loss of class maps: the sum over pixels of the mean over classes."""

    def __call__(self, logits_BKHW: Tensor, labels_BHW: Tensor, *, ignore_label: int, ignored: Ignored) -> Tensor:
        """Sums over the pixels that count; see `class_map_loss`."""


CLASS_MAP_LOSSES: Final[Mapping[str, ClassMapLoss]] = {"entropy": partial(class_map_loss, reduction="sum")}
"""`CatSegSettings.loss` -> the loss. A new one is a function and a line here."""
