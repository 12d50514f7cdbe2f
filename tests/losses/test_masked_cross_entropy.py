"""The class loss against sums in loops; the golden cases are in the parity test."""

import math

import pytest
import torch

from clipself.losses import masked_cross_entropy


def test_unseen_columns_do_not_exist() -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    seen = torch.tensor([True, False, True, False, True])
    labels = torch.tensor([0, 2, 4, 4])
    loss = masked_cross_entropy(logits, labels, seen_K=seen, background_weight=0.6)
    for row, label, value in zip(logits.tolist(), labels.tolist(), loss.tolist(), strict=True):
        total = sum(math.exp(row[column]) for column in (0, 2, 4))
        expected = -math.log(math.exp(row[label]) / total) * (0.6 if label == 4 else 1.0)
        assert value == pytest.approx(expected, abs=1e-5)


def test_each_row_may_see_columns_of_its_own() -> None:
    logits = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    seen = torch.tensor([[True, False, True, True], [False, True, False, True]])
    labels = torch.tensor([0, 3])
    together = masked_cross_entropy(logits, labels, seen_K=seen)
    apart = [
        masked_cross_entropy(logits[row : row + 1], labels[row : row + 1], seen_K=seen[row]).item() for row in (0, 1)
    ]
    assert together.tolist() == pytest.approx(apart, abs=1e-6)
    with pytest.raises(ValueError, match="label 1 is a class held out"):
        masked_cross_entropy(logits, torch.tensor([1, 1]), seen_K=seen)


def test_a_novel_label_is_refused_not_infinite() -> None:
    seen = torch.tensor([True, False, True])
    with pytest.raises(ValueError, match="label 1 is a class held out of training"):
        masked_cross_entropy(torch.zeros(1, 3), torch.tensor([1]), seen_K=seen)
    with pytest.raises(ValueError, match="the last column is the background and must take part"):
        masked_cross_entropy(torch.zeros(1, 3), torch.tensor([0]), seen_K=torch.tensor([True, True, False]))


def test_no_regions() -> None:
    loss = masked_cross_entropy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), seen_K=torch.ones(3).bool())
    assert loss.shape == (0,)
