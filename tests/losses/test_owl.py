"""OWL-ViT's set loss against loops over single numbers; the published numbers are in tests/conformance."""

import math

import pytest
import torch
from torch import Tensor

from clipself.losses.owl import OwlConstants as Constants
from clipself.losses.owl import OwlTargets, owl_costs, owl_shares


def drawn(seed: int = 0) -> tuple[Tensor, Tensor, OwlTargets]:
    """Five tokens, four queries, two boxes of which the first has two right labels."""
    generator = torch.Generator().manual_seed(seed)
    logits_PQ = torch.randn(5, 4, generator=generator)
    boxes_P4 = 0.1 + 0.3 * torch.rand(5, 4, generator=generator)
    labels_MQ = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1]]) > 0
    return logits_PQ, boxes_P4, OwlTargets(boxes_M4=boxes_P4[[3, 1]] + 0.05, labels_MQ=labels_MQ)


def focal(logit: float, *, positive: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -0.3 * (1 - p) ** 2 * math.log(p) if positive else -0.7 * p**2 * math.log(1 - p)


def giou(one: list[float], two: list[float]) -> float:
    a, b = ([x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y, w, h in (one, two))
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = one[2] * one[3] + two[2] * two[3] - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / (union + 1e-6) - (hull - union) / (hull + 1e-6)


def test_a_cost_sums_over_labels_and_measures_centres_and_sizes() -> None:
    logits_PQ, boxes_P4, targets = drawn()
    cost_PM = owl_costs(logits_PQ, boxes_P4, targets, constants=Constants())
    for p, (logits, box) in enumerate(zip(logits_PQ.tolist(), boxes_P4.tolist(), strict=True)):
        for m, (right, truth) in enumerate(zip(targets.labels_MQ.tolist(), targets.boxes_M4.tolist(), strict=True)):
            classes = sum(
                focal(logit, positive=True) - focal(logit, positive=False)
                for logit, is_right in zip(logits, right, strict=True)
                if is_right
            )
            distance = sum(abs(a - b) for a, b in zip(box, truth, strict=True))
            assert cost_PM[p, m].item() == pytest.approx(classes + distance - giou(box, truth), abs=1e-5)


def test_a_loss_measures_corners_and_pays_for_every_token_and_query() -> None:
    logits_PQ, boxes_P4, targets = drawn()
    shares = owl_shares([logits_PQ], [boxes_P4], [targets])
    cost_PM = owl_costs(logits_PQ, boxes_P4, targets, constants=Constants())
    first, second = min(
        ((a, b) for a in range(5) for b in range(5) if a != b),
        key=lambda pair: float(cost_PM[pair[0], 0] + cost_PM[pair[1], 1]),
    )
    answers = {first: 0, second: 1}
    classes = sum(
        focal(logit, positive=p in answers and bool(targets.labels_MQ[answers[p], q]))
        for p, row in enumerate(logits_PQ.tolist())
        for q, logit in enumerate(row)
    )
    distance = overlap = 0.0
    for p, m in answers.items():
        box, truth = boxes_P4[p].tolist(), targets.boxes_M4[m].tolist()
        corners = [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for x, y, w, h in (box, truth)]
        distance += sum(abs(a - b) for a, b in zip(*corners, strict=True))
        overlap += 1 - giou(box, truth)
    assert shares["classes"].item() == pytest.approx(classes / 3, rel=1e-5)  # three right labels
    assert shares["boxes"].item() == pytest.approx(distance / 2, rel=1e-5)
    assert shares["overlap"].item() == pytest.approx(overlap / 2, rel=1e-5)


def test_each_picture_is_divided_by_its_own_and_an_empty_one_pays_its_negatives_in_full() -> None:
    logits_PQ, boxes_P4, targets = drawn()
    nothing = OwlTargets(boxes_M4=torch.zeros(0, 4), labels_MQ=torch.zeros(0, 4, dtype=torch.bool))
    alone = owl_shares([logits_PQ], [boxes_P4], [targets])
    empty = owl_shares([logits_PQ], [boxes_P4], [nothing])
    assert empty["boxes"].item() == empty["overlap"].item() == 0.0
    assert empty["classes"].item() == pytest.approx(
        sum(focal(logit, positive=False) for logit in logits_PQ.flatten().tolist()), rel=1e-5
    )
    both = owl_shares([logits_PQ] * 2, [boxes_P4] * 2, [targets, nothing])
    whole = owl_shares([logits_PQ] * 2, [boxes_P4] * 2, [targets, nothing], totals={"labels": 3.0, "boxes": 2.0})
    for name in both:
        torch.testing.assert_close(both[name], (alone[name] + empty[name]) / 2)
    torch.testing.assert_close(whole["classes"], alone["classes"] + empty["classes"] / 3)


def test_what_does_not_belong_together_is_refused() -> None:
    logits_PQ, boxes_P4, targets = drawn()
    with pytest.raises(ValueError, match="2 sets of logits, 1 of boxes and 1 of targets"):
        owl_shares([logits_PQ, logits_PQ], [boxes_P4], [targets])
    with pytest.raises(ValueError, match=r"expected \(M, 4\) and \(M, Q\)"):
        OwlTargets(boxes_M4=torch.zeros(2, 4), labels_MQ=torch.zeros(3, 4, dtype=torch.bool))
