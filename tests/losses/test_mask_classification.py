import itertools
import math

import pytest
import torch
from torch import Tensor

from clipself.losses.assignment import Match, match
from clipself.losses.mask_classification import (
    MaskClassificationLoss,
    MaskPredictions,
    TermWeights,
    class_loss,
    mask_losses,
    match_costs,
)
from clipself.losses.mask_points import sample_points, uncertain_points
from clipself.structures import MaskTargets


def random_case(
    seed: int = 0, *, queries: int = 5, classes: int = 3, counts: tuple[int, ...] = (2, 3)
) -> tuple[MaskPredictions, list[MaskTargets]]:
    draw = torch.Generator().manual_seed(seed)
    predictions = MaskPredictions(
        logits_BQK=torch.randn(len(counts), queries, classes + 1, generator=draw),
        masks_BQYX=torch.randn(len(counts), queries, 6, 8, generator=draw),
    )
    targets = [
        MaskTargets(
            labels_N=torch.randint(classes, (count,), generator=draw),
            masks_NHW=torch.rand(count, 12, 16, generator=draw) > 0.5,
        )
        for count in counts
    ]
    return predictions, targets


def bilinear(map_HW: list[list[float]], x: float, y: float) -> float:
    """By hand: pixel centres at (i + 0.5) / side, zero beyond the border."""
    height, width = len(map_HW), len(map_HW[0])
    column, row = x * width - 0.5, y * height - 0.5
    left, top = math.floor(column), math.floor(row)
    total = 0.0
    for i, j in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= i < height and 0 <= j < width:
            total += map_HW[i][j] * (1 - abs(row - i)) * (1 - abs(column - j))
    return total


def test_points_are_read_bilinearly_with_zero_outside() -> None:
    draw = torch.Generator().manual_seed(1)
    maps, points = torch.randn(2, 3, 4, generator=draw), torch.rand(2, 9, 2, generator=draw)
    points[0, 0] = torch.tensor([0.0, 1.0])
    expected = [[bilinear(m.tolist(), x, y) for x, y in p.tolist()] for m, p in zip(maps, points, strict=True)]
    torch.testing.assert_close(sample_points(maps, points), torch.tensor(expected))
    torch.testing.assert_close(sample_points(maps, points[1])[1], torch.tensor(expected[1]))


def test_costs_are_the_three_terms_of_the_paper() -> None:
    predictions, targets = random_case()
    points = torch.rand(7, 2, generator=torch.Generator().manual_seed(2))
    weights = TermWeights(classes=2.0, mask=5.0, dice=3.0)
    logits, masks = predictions.logits_BQK[0], predictions.masks_BQYX[0]
    cost = match_costs(logits, masks, targets[0], points, weights=weights)
    for q, n in itertools.product(range(5), range(2)):
        probability = math.exp(logits[q, targets[0].labels_N[n]]) / sum(math.exp(v) for v in logits[q].tolist())
        entropy = both = size = 0.0
        for x, y in points.tolist():
            p = 1 / (1 + math.exp(-bilinear(masks[q].tolist(), x, y)))
            t = bilinear(targets[0].masks_NHW[n].float().tolist(), x, y)
            entropy -= t * math.log(p) + (1 - t) * math.log(1 - p)
            both, size = both + p * t, size + p + t
        expected = 2 * -probability + 5 * entropy / 7 + 3 * (1 - (2 * both + 1) / (size + 1))
        assert float(cost[q, n]) == pytest.approx(expected, rel=1e-5)


def test_the_match_is_the_cheapest_of_all_assignments() -> None:
    cost = torch.rand(5, 3, generator=torch.Generator().manual_seed(3))
    found = match(cost)
    least = min(sum(float(cost[q, n]) for n, q in enumerate(order)) for order in itertools.permutations(range(5), 3))
    assert float(cost[found.queries_M, found.targets_M].sum()) == pytest.approx(least)
    assert found.queries_M.tolist() == sorted(found.queries_M.tolist())


def test_more_targets_than_predictions_leave_some_unmatched() -> None:
    predictions, targets = random_case(queries=2, counts=(4,))
    (found,) = MaskClassificationLoss(num_points=9).match(predictions, targets)
    assert len(found.queries_M) == 2
    assert len(set(found.targets_M.tolist())) == 2


def test_class_term_is_a_weighted_mean_with_no_object() -> None:
    logits = torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(4))
    found = Match(queries_M=torch.tensor([1]), targets_M=torch.tensor([0]))
    loss = class_loss(logits, [torch.tensor([0])], [found], no_object=0.1)
    total = weight = 0.0
    for q, (label, w) in enumerate(((2, 0.1), (0, 1.0), (2, 0.1))):
        row = logits[0, q].tolist()
        total += w * (math.log(sum(math.exp(v) for v in row)) - row[label])
        weight += w
    assert float(loss) == pytest.approx(total / weight, rel=1e-5)


def test_a_perfect_mask_costs_nothing_and_an_empty_one_all() -> None:
    truth = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    entropy, dice = mask_losses((truth - 0.5) * 200, truth, num_masks=1)
    assert float(entropy) == pytest.approx(0.0, abs=1e-6)
    assert float(dice) == pytest.approx(0.0, abs=1e-6)
    _, dice = mask_losses(torch.full((1, 4), -100.0), truth, num_masks=1)
    assert float(dice) == pytest.approx(1 - 1 / 3)


def test_points_gather_where_the_mask_is_undecided() -> None:
    logits = torch.linspace(-9, 9, 64).expand(1, 64, 64)  # undecided about x = 0.5
    points = uncertain_points(logits, 400, generator=torch.Generator().manual_seed(0))
    assert points.shape == (1, 400, 2)
    near = (points[0, :300, 0] - 0.5).abs()
    spread = (points[0, 300:, 0] - 0.5).abs()
    assert float(near.mean()) < 0.15 < 0.2 < float(spread.mean())


def test_the_sum_over_layers_is_the_sum_of_losses() -> None:
    predictions, targets = random_case()
    loss = MaskClassificationLoss(num_points=20)
    both = loss([predictions, predictions], targets, generators=draws(2))
    one_after_another = draws(2)
    apart = [loss([predictions], targets, generators=one_after_another) for _ in range(2)]
    torch.testing.assert_close(both, apart[0] + apart[1])


def draws(images: int, *, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(100 + first + image) for image in range(images)]


def cut(predictions: MaskPredictions, start: int, stop: int) -> MaskPredictions:
    return MaskPredictions(logits_BQK=predictions.logits_BQK[start:stop], masks_BQYX=predictions.masks_BQYX[start:stop])


@pytest.mark.parametrize("counts", [(2, 3, 1), (0, 4, 2), (7, 1, 0)])
def test_shares_of_batches_sum_to_the_loss_of_all(counts: tuple[int, ...]) -> None:
    """However a step is cut into batches, with more masks than predictions too."""
    predictions, targets = random_case(counts=counts)
    loss = MaskClassificationLoss(num_points=40)
    whole = loss.shares([predictions], targets, generators=draws(3))
    cuts = ((0, 1), (1, 3))
    each = [loss.counts(targets[start:stop], queries=5) for start, stop in cuts]
    totals = {name: each[0][name] + each[1][name] for name in each[0]}
    parts = [
        loss.shares(
            [cut(predictions, start, stop)],
            targets[start:stop],
            generators=draws(stop - start, first=start),
            totals=totals,
        )
        for start, stop in cuts
    ]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value, rtol=1e-5, atol=1e-6)
    assert float(whole["mask"]) > 0


def test_half_precision_around_the_loss_changes_no_number() -> None:
    predictions, targets = random_case()
    loss = MaskClassificationLoss(num_points=40)
    plain = loss([predictions], targets, generators=draws(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss([predictions], targets, generators=draws(2)), plain)


def test_counts_are_the_weights_that_the_class_term_sums() -> None:
    predictions, targets = random_case(counts=(2, 7, 0))
    loss = MaskClassificationLoss(num_points=9, no_object=0.25)
    matches = loss.match(predictions, targets)
    matched = sum(len(found.queries_M) for found in matches)
    assert loss.counts(targets, queries=5) == {"masks": 9.0, "class_weight": matched + 0.25 * (15 - matched)}


@pytest.mark.parametrize("counts", [pytest.param((0, 2), id="one-empty-image"), pytest.param((0, 0), id="all-empty")])
def test_images_without_masks_still_teach_no_object(counts: tuple[int, ...]) -> None:
    predictions, targets = random_case(counts=counts)
    logits, masks = predictions.logits_BQK.requires_grad_(), predictions.masks_BQYX.requires_grad_()
    total = MaskClassificationLoss(num_points=20)([MaskPredictions(logits_BQK=logits, masks_BQYX=masks)], targets)
    total.backward()  # type: ignore[no-untyped-call]
    assert isinstance(logits.grad, Tensor)
    assert isinstance(masks.grad, Tensor)  # zero at most, never missing: every process must take part
    assert torch.isfinite(total)
    assert bool(logits.grad[0].any())
    assert not masks.grad[0].any()


def test_what_cannot_be_meant_is_refused() -> None:
    predictions, targets = random_case()
    with pytest.raises(ValueError, match="there must be at least one point"):
        MaskClassificationLoss(num_points=0)
    with pytest.raises(ValueError, match="with one MaskTargets an image"):
        MaskClassificationLoss()([predictions], targets[:1])
    with pytest.raises(ValueError, match=r"expected \(B, Q, K \+ 1\) and \(B, Q, Y, X\)"):
        MaskPredictions(logits_BQK=predictions.logits_BQK[:1], masks_BQYX=predictions.masks_BQYX)
    with pytest.raises(ValueError, match=r"expected \(N,\) and \(N, H, W\)"):
        MaskTargets(labels_N=torch.zeros(2, dtype=torch.long), masks_NHW=torch.zeros(3, 4, 4))
    with pytest.raises(FloatingPointError, match="so they cannot be matched"):
        match(torch.full((2, 2), math.nan))
