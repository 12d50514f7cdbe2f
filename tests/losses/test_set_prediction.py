"""Costs and losses of sets against the formulas spelled out, one pair at a time."""

import math
from itertools import permutations

import pytest
import torch

from clipself.losses.assignment import match
from clipself.losses.set_prediction import Focal, SetWeights, box_losses, set_costs


def giou(one: list[float], two: list[float]) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = one, two
    left, right = max(ax - aw / 2, bx - bw / 2), min(ax + aw / 2, bx + bw / 2)
    top, bottom = max(ay - ah / 2, by - bh / 2), min(ay + ah / 2, by + bh / 2)
    inside = max(0.0, right - left) * max(0.0, bottom - top)
    union = aw * ah + bw * bh - inside
    hull = (max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)) * (
        max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)
    )
    return inside / union - (hull - union) / hull


def boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([torch.rand(count, 2, generator=generator), torch.rand(count, 2, generator=generator) / 2], dim=1)


def test_costs_are_the_formula() -> None:
    predicted, truth, logits = boxes(5, 0), boxes(3, 1), torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    focal, weights = Focal(alpha=0.3, gamma=1.5), SetWeights(classes=3.0, box=4.0, overlap=2.5)
    costs = set_costs(focal.cost(logits), predicted, truth, weights=weights)
    for query in range(5):
        for target in range(3):
            p = 1 / (1 + math.exp(-float(logits[query, target])))
            positive, negative = -0.3 * (1 - p) ** 1.5 * math.log(p), -0.7 * p**1.5 * math.log(1 - p)
            far = sum(abs(float(a - b)) for a, b in zip(predicted[query], truth[target], strict=True))
            overlap = giou(predicted[query].tolist(), truth[target].tolist())
            expected = 3.0 * (positive - negative) + 4.0 * far - 2.5 * overlap
            assert float(costs[query, target]) == pytest.approx(expected, abs=2e-5)


def test_box_losses_are_sums_over_pairs_and_nothing_for_none() -> None:
    mine, theirs = boxes(4, 3).requires_grad_(), boxes(4, 4)
    distance, overlap = box_losses(mine, theirs)
    assert float(distance.detach()) == pytest.approx(float((mine - theirs).abs().sum().detach()), rel=1e-6)
    expected = sum(1 - giou(a, b) for a, b in zip(mine.tolist(), theirs.tolist(), strict=True))
    assert float(overlap.detach()) == pytest.approx(expected, rel=1e-5)
    nothing = torch.stack(box_losses(mine[:0], theirs[:0])).sum()
    assert nothing.detach().item() == 0.0
    (gradient,) = torch.autograd.grad(nothing, mine)
    assert gradient.shape == mine.shape


def test_the_focal_loss_is_the_formula() -> None:
    logits, wanted = torch.tensor([1.2, -0.4]), torch.tensor([1.0, 0.0])
    loss = Focal(alpha=0.25, gamma=2.0).loss(logits, wanted)
    p, q = 1 / (1 + math.exp(-1.2)), 1 / (1 + math.exp(0.4))
    assert loss.tolist() == pytest.approx(
        [-0.25 * (1 - p) ** 2 * math.log(p), -0.75 * q**2 * math.log(1 - q)], rel=1e-5
    )


def test_the_assignment_is_the_cheapest_of_all() -> None:
    cost = torch.rand(5, 3, generator=torch.Generator().manual_seed(7))
    best = min(sum(float(cost[query, target]) for target, query in enumerate(row)) for row in permutations(range(5), 3))
    found = match(cost)
    assert float(cost[found.queries_M, found.targets_M].sum()) == pytest.approx(best)
    with pytest.raises(FloatingPointError, match="cannot be matched"):
        match(torch.tensor([[float("nan")]]))
