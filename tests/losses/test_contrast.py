"""Contrasts of pairs, by loops over the pairs."""

import math

import pytest
import torch

from clipself.losses.contrast import CONTRASTS, focal_contrast
from clipself.losses.masked_features import masked_features


def test_focal_contrast_is_a_sum_over_pairs() -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets, total = [2, 0, 3], 0.0
    for row in range(3):
        for col in range(4):
            x = float(logits[row, col])
            p = 1 / (1 + math.exp(-x))
            mine, others = 2 * 0.25 * (1 - p) ** 2 * math.log1p(math.exp(-x)), 2 * 0.75 * p**2 * math.log1p(math.exp(x))
            total += mine if col == targets[row] else others
    loss = focal_contrast(logits, torch.tensor(targets), alpha=0.25, gamma=2.0, normaliser=5.0)
    assert float(loss) == pytest.approx(total / 5)


def test_half_and_no_power_is_the_sigmoid_cross_entropy() -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.eye(4), reduction="sum")
    torch.testing.assert_close(focal_contrast(logits, torch.arange(4), gamma=0.0), plain)


@pytest.mark.parametrize("name", CONTRASTS)
def test_contrasts_look_at_cosines_and_both_directions(name: str) -> None:
    generator = torch.Generator().manual_seed(2)
    images, texts = torch.randn(5, 8, generator=generator), torch.randn(5, 8, generator=generator)
    loss = CONTRASTS[name](images, texts, temperature=10.0)
    torch.testing.assert_close(CONTRASTS[name](3 * images, texts / 2, temperature=10.0), loss)
    torch.testing.assert_close(CONTRASTS[name](texts, images, temperature=10.0), loss)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(CONTRASTS[name](images[order], texts[order], temperature=10.0), loss)
    assert CONTRASTS[name](texts, texts, temperature=10.0) < loss


def test_hidden_patches_may_count_alone() -> None:
    predicted = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]])
    target = torch.tensor([[[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    hidden = torch.tensor([[False, True, True]])
    assert float(masked_features(predicted, target, hidden)) == pytest.approx(1 - 1 / 3)
    assert float(masked_features(predicted, target, hidden, counted="masked")) == pytest.approx(1.0)
    doubled = masked_features(predicted.repeat(2, 1, 1), target.repeat(2, 1, 1), hidden.repeat(2, 1), reduction="sum")
    assert float(doubled) == pytest.approx(2 - 2 / 3)
