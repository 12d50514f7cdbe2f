"""Mean class accuracy against a hand-worked table."""

import math

import pytest
import torch

from clipself.metrics.accuracy import MeanClassAccuracy


def scores(order: list[int], classes: int = 6) -> torch.Tensor:
    """Scores whose ranking is `order`, best first."""
    row = torch.zeros(classes)
    for place, label in enumerate(order):
        row[label] = float(classes - place)
    return row


def test_hand_worked_table() -> None:
    """Class 0: three regions, two right at once; class 4: one, found among five; class 5: one, ranked last."""
    meter = MeanClassAccuracy(6)
    meter.update(torch.stack([scores([0, 1, 2, 3, 4, 5]), scores([0, 5, 4, 3, 2, 1])]), torch.tensor([0, 0]))
    meter.update(
        torch.stack([scores([1, 2, 3, 4, 5, 0]), scores([0, 1, 2, 3, 4, 5]), scores([0, 1, 2, 3, 4, 5])]),
        torch.tensor([0, 4, 5]),
    )
    top1, top5 = meter.compute()[1], meter.compute()[5]
    assert top1.mean == pytest.approx(100 * (2 / 3 + 0 + 0) / 3)
    assert top5.mean == pytest.approx(100 * (2 / 3 + 1 + 0) / 3)
    assert top1.overall == pytest.approx(100 * 2 / 5)
    assert [math.isnan(value) for value in top1.per_class_K.tolist()] == [False, True, True, True, False, False]


def test_merging_counts_the_same_as_one_meter() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(40, 7, generator=generator), torch.randint(0, 7, (40,), generator=generator)
    whole, left, right = (MeanClassAccuracy(7) for _ in range(3))
    whole.update(logits, labels)
    left.update(logits[:13], labels[:13])
    right.update(logits[13:], labels[13:])
    left.merge(right)
    assert left.compute()[1].mean == whole.compute()[1].mean
    hits = [
        [int(row.argmax()) == label for row, label in zip(logits, labels.tolist(), strict=True) if label == k]
        for k in range(7)
    ]
    naive = [sum(hit) / len(hit) for hit in hits if hit]
    assert whole.compute()[1].mean == pytest.approx(100 * sum(naive) / len(naive))


def test_few_classes_and_no_regions() -> None:
    meter = MeanClassAccuracy(2)
    assert math.isnan(meter.compute()[1].mean)
    meter.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    assert (meter.compute()[1].mean, meter.compute()[5].mean) == (0.0, 100.0)


def test_scores_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit 3 classes"):
        MeanClassAccuracy(3).update(torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="labels reach from 0 to 5, outside the vocabulary"):
        MeanClassAccuracy(3).update(torch.zeros(2, 3), torch.tensor([0, 5]))


def test_scores_that_are_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="scores hold NaN, which cannot be ranked"):
        MeanClassAccuracy(2).update(torch.tensor([[0.5, torch.nan]]), torch.tensor([0]))
