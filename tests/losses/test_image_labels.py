"""Losses of images with labels alone, against regions chosen by hand."""

import math

import pytest
import torch

from clipself.losses import IMAGE_LABEL_RULES, WeakRegions, caption_loss, image_label_loss
from clipself.losses.image_labels import column_of_class

BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 30, 20], [5, 5, 15, 25], [0, 0, 90, 90]])
LOGITS = torch.tensor([[2.0, -1.0, 0.0], [0.5, 0.5, 0.0], [3.0, 4.0, 0.0], [-1.0, 1.0, 0.0]])


def term(row: list[float], label: int) -> float:
    return sum(math.log1p(math.exp(-x if column == label else x)) for column, x in enumerate(row))


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        pytest.param("max_size", 1, id="largest-but-the-last"),
        pytest.param("first", 0, id="first"),
        pytest.param("max_score", 2, id="surest"),
        pytest.param("min_loss", 0, id="easiest"),
        pytest.param("image", 3, id="whole-image"),
    ],
)
def test_one_region_is_the_label_and_no_other_class(rule: str, chosen: int) -> None:
    loss, picked = image_label_loss(WeakRegions(logits_RK=LOGITS, boxes_R4=BOXES), [0], rule=rule)
    assert picked == [chosen]
    assert loss.item() == pytest.approx(term(LOGITS[chosen].tolist(), 0), rel=1e-5)


def test_labels_of_an_image_share_its_loss() -> None:
    loss, _ = image_label_loss(WeakRegions(logits_RK=LOGITS, boxes_R4=BOXES), [0, 1], rule="first")
    assert loss.item() == pytest.approx((term([2.0, -1.0, 0.0], 0) + term([2.0, -1.0, 0.0], 1)) / 2, rel=1e-5)


def test_softmax_lets_columns_compete() -> None:
    loss, _ = image_label_loss(WeakRegions(logits_RK=LOGITS, boxes_R4=BOXES), [1], softmax=True)
    assert loss.item() == pytest.approx(math.log(2 * math.exp(0.5) + 1) - 0.5, rel=1e-5)


def test_regions_vote_by_their_second_branch() -> None:
    votes = torch.zeros(4, 3)
    votes[2, 0] = 50.0  # the third region alone decides on the first class, all four alike on the others
    regions = WeakRegions(logits_RK=LOGITS, boxes_R4=BOXES, votes_RK=votes)
    loss, picked = image_label_loss(regions, [0], rule="wsddn")
    share = [LOGITS[2, 0].sigmoid(), LOGITS[:, 1].sigmoid().mean(), LOGITS[:, 2].sigmoid().mean()]
    wanted = -(share[0].log() + (1 - share[1]).log() + (1 - share[2]).log()) / 3
    torch.testing.assert_close(loss, wanted)
    assert picked == [2]
    with pytest.raises(ValueError, match="has none; use max_size"):
        image_label_loss(WeakRegions(logits_RK=LOGITS, boxes_R4=BOXES), [0], rule="wsddn")


@pytest.mark.parametrize("rule", sorted(IMAGE_LABEL_RULES))
def test_an_image_without_regions_or_labels_keeps_the_graph(rule: str) -> None:
    leaf = torch.zeros(0, 3, requires_grad=True)
    empty = WeakRegions(logits_RK=leaf, boxes_R4=torch.zeros(0, 4), votes_RK=leaf)
    loss, picked = image_label_loss(empty, [1], rule=rule)
    torch.autograd.backward(loss)
    assert (loss.item(), picked) == (0.0, [])
    assert image_label_loss(WeakRegions(logits_RK=LOGITS, boxes_R4=BOXES), [], rule=rule)[1] == []


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'max_size'"):
        image_label_loss(WeakRegions(logits_RK=LOGITS, boxes_R4=BOXES), [0], rule="max_sise")


def test_captions_of_others_weigh_less() -> None:
    logits = torch.tensor([1.0, -2.0, 0.5])
    wanted = math.log1p(math.exp(2.0)) + 0.125 * (math.log1p(math.exp(1.0)) + math.log1p(math.exp(0.5)))
    assert caption_loss(logits, 1, negative_weight=0.125).item() == pytest.approx(wanted, rel=1e-6)


def test_classes_that_a_reduced_classifier_leaves_out_are_its_background() -> None:
    classes = torch.tensor([1, 4, 3])
    columns = column_of_class(classes, total=5)
    assert [int(columns[one]) for one in classes] == [0, 1, 2]
    assert int(columns[2]) == int(columns[5]) == 3
