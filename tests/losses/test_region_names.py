"""Regions against names: the sum spelled out."""

import math

import pytest
import torch

from clipself.losses.region_names import region_name_loss


def test_own_names_and_counted_others_are_summed() -> None:
    logits = 3 * torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    labels, counted = torch.tensor([0, 4, 2]), torch.tensor([True, False, True, False, False])
    total = 0.0
    for row, own in zip(logits.tolist(), labels.tolist(), strict=True):
        for column, value in enumerate(row):
            if column == own:
                total += math.log1p(math.exp(-value))
            elif counted[column]:
                total += math.log1p(math.exp(value))
    assert region_name_loss(logits, labels, counted_K=counted).item() == pytest.approx(total, rel=1e-5)
