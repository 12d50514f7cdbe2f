"""Which prediction answers for which target: the assignment of least total cost."""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """Which prediction answers for which target, in ascending order of the predictions.

    Attributes:
        queries_M: Index of the prediction.
        targets_M: Index of the target.
    """

    queries_M: Tensor
    targets_M: Tensor


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
