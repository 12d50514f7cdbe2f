"""Detic's class losses against loops over regions and columns."""

import math

import pytest
import torch

from clipself.losses import sigmoid_class_loss, softmax_class_loss

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5], [-2.0, 1.0, 0.0]])
LABELS = torch.tensor([0, 2, 1])


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


@pytest.mark.parametrize("weights", [None, (1.0, 0.0)])
def test_sigmoid_is_a_sum_over_classes_without_the_background(weights: tuple[float, ...] | None) -> None:
    wanted = []
    for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        terms = [-log_sigmoid(x) if label == column else -log_sigmoid(-x) for column, x in enumerate(row[:-1])]
        wanted.append(sum(w * term for w, term in zip(weights or (1.0, 1.0), terms, strict=True)))
    found = sigmoid_class_loss(LOGITS, LABELS, weights_K=None if weights is None else torch.tensor(weights))
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_a_weight_of_softmax_is_that_of_regions_and_leaves_columns_alone() -> None:
    weights = (1.0, 0.0, 2.0)
    total = 0.0
    for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        total += weights[label] * (math.log(sum(map(math.exp, row))) - row[label])
    found = softmax_class_loss(LOGITS, LABELS, weights_K=torch.tensor(weights))
    torch.testing.assert_close(found, torch.tensor(total / 3.0))


def test_no_region_is_no_loss() -> None:
    nothing = torch.zeros(0, 3, requires_grad=True)
    torch.autograd.backward(softmax_class_loss(nothing, torch.zeros(0, dtype=torch.long)))
    assert sigmoid_class_loss(nothing, torch.zeros(0, dtype=torch.long)).shape == (0,)
