"""From class scores to one class a pixel, a group of classes at a time: memory does not grow with the vocabulary."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The best class of each pixel.

    Attributes:
        labels_HW: Index of the best score's class.
        scores_HW: That score; its softmax over all scores where the scores are logits.
    """

    labels_HW: Tensor
    scores_HW: Tensor


def streamed_argmax(groups: Iterable[Tensor], *, softmax: bool = False, class_of: Tensor | None = None) -> Decision:
    """Looks at one group of scores after another and keeps the best; equal to an argmax over all of them.

    Args:
        groups: Scores (k, H, W), one group after another.
        softmax: Whether the scores are logits whose softmax is wanted: the sum of exponentials is kept along.
        class_of: Class of each score, where several scores (synonyms) stand for one class: the best of them counts.

    Raises:
        ValueError: There are no scores.
    """
    best = place = total = None
    first = 0
    for scores_kHW in groups:
        values, places = scores_kHW.max(0)
        sums = (scores_kHW - values).exp().sum(0) if softmax else None
        if best is None or place is None:
            best, place, total = values, places, sums
        else:
            better = values > best
            top = torch.where(better, values, best)
            if softmax and total is not None and sums is not None:
                total = total * (best - top).exp() + sums * (values - top).exp()
            best, place = top, torch.where(better, places + first, place)
        first += len(scores_kHW)
    if best is None or place is None:
        raise ValueError("there are no class scores to decide by; the vocabulary is empty")
    labels = place if class_of is None else class_of.to(place.device)[place]
    return Decision(labels_HW=labels, scores_HW=best if total is None else 1 / total)
