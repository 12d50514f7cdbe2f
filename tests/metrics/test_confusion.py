"""mIoU and its companions against counting pixel by pixel, and against scikit-learn."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score

from clipself.metrics.confusion import ConfusionMatrix


def random_maps(seed: int, *, classes: int, size: tuple[int, int], absent: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels without one class and with ignored pixels; predictions that hit about half of them."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([one for one in range(classes) if one != absent], size)
    predicted = np.where(rng.random(size) < 0.5, labels, rng.integers(0, classes, size))
    labels[rng.random(size) < 0.2] = 255
    return torch.from_numpy(predicted), torch.from_numpy(labels)


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_counting_pixel_by_pixel(seed: int) -> None:
    classes = 5
    pairs = [random_maps(10 * seed + n, classes=classes, size=(7 + n, 11 - n), absent=3) for n in range(3)]
    meter = ConfusionMatrix(classes)
    for predicted, labels in pairs:
        meter.update(predicted, labels)
    scores = meter.compute()
    both = [(int(p), int(t)) for predicted, labels in pairs for p, t in zip(
        predicted.flatten(), labels.flatten(), strict=True) if t != 255]  # fmt: skip
    ious, accs, weighted = [], [], 0.0
    for one in range(classes):
        hits = sum(p == t == one for p, t in both)
        true, guessed = sum(t == one for _, t in both), sum(p == one for p, _ in both)
        if not true:
            assert math.isnan(scores.iou_K[one])
            continue
        ious.append(100 * hits / (true + guessed - hits))
        accs.append(100 * hits / true)
        weighted += ious[-1] * true / len(both)
    assert scores.miou == pytest.approx(sum(ious) / len(ious))
    assert scores.macc == pytest.approx(sum(accs) / len(accs))
    assert scores.fwiou == pytest.approx(weighted)
    assert scores.pacc == pytest.approx(100 * sum(p == t for p, t in both) / len(both))


def test_scores_equal_scikit_learn() -> None:
    predicted, labels = random_maps(7, classes=6, size=(40, 50), absent=2)
    meter = ConfusionMatrix(6)
    meter.update(predicted, labels)
    counted = labels != 255
    true, guessed = labels[counted].numpy(), predicted[counted].numpy()
    assert (meter.counts_KK.numpy() == confusion_matrix(true, guessed, labels=range(6))).all()
    per_class = jaccard_score(true, guessed, labels=[0, 1, 3, 4, 5], average=None)
    np.testing.assert_allclose(meter.compute().iou_K.numpy()[[0, 1, 3, 4, 5]], 100 * per_class)


def test_a_group_is_a_mean_over_those_of_it_that_occur() -> None:
    predicted, labels = random_maps(1, classes=5, size=(20, 20), absent=3)
    meter = ConfusionMatrix(5)
    meter.update(predicted, labels)
    scores = meter.compute()
    assert scores.mean_over([0, 3])[0] == pytest.approx(float(scores.iou_K[0]))
    assert math.isnan(scores.mean_over([3])[0])


def test_parts_merge_to_the_whole() -> None:
    whole, first, second = ConfusionMatrix(4), ConfusionMatrix(4), ConfusionMatrix(4)
    for part, seed in ((first, 1), (second, 2)):
        pair = random_maps(seed, classes=4, size=(6, 6), absent=0)
        part.update(*pair)
        whole.update(*pair)
    first.merge(second)
    assert torch.equal(first.counts_KK, whole.counts_KK)


def test_perfect_and_nothing() -> None:
    meter = ConfusionMatrix(3)
    assert math.isnan(meter.compute().miou)
    labels = torch.tensor([[0, 1], [255, 1]])
    meter.update(labels.where(labels != 255, 2), labels)
    assert meter.compute().miou == 100.0  # class 2 is predicted only where nothing counts


def test_sizes_and_values_that_do_not_fit_are_said() -> None:
    meter = ConfusionMatrix(3)
    with pytest.raises(ValueError, match="resize the scores to the labels ahead of the argmax"):
        meter.update(torch.zeros(4, 4, dtype=torch.long), torch.zeros(4, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="labelled class 7 is outside the 3 classes"):
        meter.update(torch.zeros(1, 1, dtype=torch.long), torch.full((1, 1), 7))


def test_an_ignored_value_is_no_class() -> None:
    ConfusionMatrix(255)
    ConfusionMatrix(300, ignore_label=65535)
    with pytest.raises(ValueError, match="255 is one of the 300 classes; pass another ignore_label"):
        ConfusionMatrix(300)


def test_maps_come_as_arrays_lists_and_pictures() -> None:
    predicted, labels = torch.tensor([[0, 1], [2, 1]]), torch.tensor([[0, 1], [1, 255]])
    wanted = ConfusionMatrix(3)
    wanted.update(predicted, labels)
    given: list[Any] = [np.asarray(labels), labels.tolist(), Image.fromarray(labels.byte().numpy()), labels.byte()]
    for one in given:
        matrix = ConfusionMatrix(3)
        matrix.update(predicted.numpy().astype(np.uint8), one)
        assert torch.equal(matrix.counts_KK, wanted.counts_KK)


def test_an_ignored_value_beyond_bytes_is_no_class_of_a_map_of_bytes() -> None:
    labels = np.array([[255, 3], [255, 255]], dtype=np.uint8)
    for kind in (np.uint8, np.uint16, np.int64):
        meter = ConfusionMatrix(300, ignore_label=65535)
        meter.update(labels.astype(kind), labels.astype(kind))
        assert int(meter.counts_KK[255, 255]) == 3, kind
        assert int(meter.counts_KK.sum()) == 4, kind
