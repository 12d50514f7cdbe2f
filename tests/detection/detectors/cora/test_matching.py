"""Class-aware matching and its losses, by hand-drawn pictures."""

import pytest
import torch
from torch import Tensor

from clipself.detection.detectors.cora.localiser import Predictions
from clipself.detection.detectors.cora.matching import Objects, SetCriterion, count_pairs

LEFT, RIGHT, FAR = [0.2, 0.5, 0.2, 0.2], [0.8, 0.5, 0.2, 0.2], [0.5, 0.05, 0.02, 0.02]


def predictions(*boxes: list[float], logits: list[float] | None = None) -> Predictions:
    return Predictions(logits_BQ=torch.tensor([logits or [0.0] * len(boxes)]), boxes_BQ4=torch.tensor([boxes]))


def objects(*boxes: list[float], labels: list[int]) -> list[Objects]:
    return [Objects(boxes_N4=torch.tensor(boxes).reshape(-1, 4), labels_N=torch.tensor(labels, dtype=torch.long))]


def pairs_of(
    found: Predictions, truth: list[Objects], classes: list[int], groups: Tensor | None = None
) -> list[list[int]]:
    (one,) = SetCriterion(groups_K=groups).match(found, truth, torch.tensor([classes]))
    return [one.queries_M.tolist(), one.targets_M.tolist()]


def test_an_anchor_answers_only_for_its_class() -> None:
    truth = objects(LEFT, RIGHT, labels=[0, 1])
    assert pairs_of(predictions(LEFT, RIGHT), truth, [0, 1]) == [[0, 1], [0, 1]]
    assert pairs_of(predictions(LEFT, RIGHT), truth, [1, 0]) == [[], []]  # each is far from the object of its class
    assert pairs_of(predictions(LEFT, RIGHT, LEFT), truth, [1, 1, 2]) == [[1], [1]]


def test_an_object_that_no_anchor_of_its_class_overlaps_is_left_out() -> None:
    truth = objects(LEFT, FAR, labels=[0, 0])
    assert pairs_of(predictions(LEFT, LEFT), truth, [0, 0]) == [[0], [0]]


def test_classes_of_a_group_stand_in_for_each_other() -> None:
    truth = objects(LEFT, labels=[1])
    assert pairs_of(predictions(LEFT), truth, [0]) == [[], []]
    assert pairs_of(predictions(LEFT), truth, [0], torch.tensor([3, 3, 4])) == [[0], [0]]


def test_an_anchor_may_look_for_several_classes() -> None:
    (one,) = SetCriterion().match(predictions(LEFT), objects(LEFT, labels=[1]), torch.tensor([[[0, 1]]]))
    assert one.queries_M.tolist() == [0]


def test_the_first_stage_is_matched_whatever_the_classes() -> None:
    (one,) = SetCriterion().match_first_stage(predictions(RIGHT, LEFT), objects(LEFT, labels=[7]))
    assert (one.queries_M.tolist(), one.targets_M.tolist()) == ([1], [0])


def test_a_picture_without_objects_teaches_that_nothing_is_there() -> None:
    found, truth = predictions(LEFT, RIGHT, logits=[2.0, -2.0]), objects(labels=[])
    pairs = SetCriterion().match(found, truth, torch.tensor([[0, 0]]))
    assert count_pairs(pairs) == 0
    terms = SetCriterion().losses(found, truth, pairs)
    p = torch.tensor([2.0, -2.0]).sigmoid()
    expected = (-0.75 * p**2 * (1 - p).log()).sum()
    torch.testing.assert_close(terms["objectness"], expected)
    assert terms["boxes"] == 0
    assert terms["overlap"] == 0


def test_losses_are_sums_over_pairs() -> None:
    found = predictions([0.3, 0.5, 0.2, 0.2], RIGHT)
    truth = objects(LEFT, labels=[0])
    terms = SetCriterion().losses(found, truth, SetCriterion().match(found, truth, torch.tensor([[0, 1]])))
    assert terms["boxes"] == pytest.approx(0.1)
    union, around = 0.06, 0.06
    assert terms["overlap"] == pytest.approx(1 - (0.02 / union - (around - union) / around), abs=1e-5)
    weighed = SetCriterion().weigh(terms)
    assert weighed["boxes"] == pytest.approx(0.5)
