"""Batches of two kinds: their shares, their order after a kill, and their cut among processes and micro-batches."""

from dataclasses import replace
from itertools import chain, islice
from typing import Any

import pytest
import torch

from clipself.engine.cut import Cut
from clipself.engine.loader import SecondKind, TrainingData
from clipself.engine.sampler import EpochSampler, share_of_second

FIRST, SECOND = 12, 20


def order(
    batches: int, *, step: int = 0, ratio: float = 4.0, rank: int = 0, begun: Cut | None = None, **changes: Any
) -> list[list[tuple[int, int]]]:
    cut = Cut.at_first(**{"batch_size": 2, "accumulate": 1, "processes": 1, **changes})
    begun = begun or cut
    second = SecondKind(length=SECOND, ratio=ratio, batch_size=2 * begun.batch_size)
    data = TrainingData(dataset=None, collate=list, names=["x"] * (FIRST + SECOND), second=second)
    cut = replace(cut, unit=begun.unit)
    return list(islice(data.sampler(cut, begun=begun, rank=rank, seed=3, start_step=step), batches))


def kinds(batches: list[list[tuple[int, int]]]) -> str:
    for batch in batches:
        assert len({index >= FIRST for _, index in batch}) == 1  # never mixed
    return "".join("b" if batch[0][1] < FIRST else "l" for batch in batches)


def test_the_ratio_of_images_holds_and_kinds_are_spread() -> None:
    batches = order(60)
    assert share_of_second(4.0, (2, 4)) == pytest.approx(2 / 3)
    assert kinds(batches)[:9] == "bllbllbll"
    images = [len(batch) for batch in batches]
    labelled = sum(size for size, kind in zip(images, kinds(batches), strict=True) if kind == "l")
    assert labelled == 4 * (sum(images) - labelled)


def test_each_image_of_a_kind_comes_once_in_its_epoch() -> None:
    seen = [index for batch in order(18) for _, index in batch if index < FIRST]
    assert sorted(seen) == list(range(FIRST))
    seen = [index for batch in order(8) for epoch, index in batch if index >= FIRST and epoch == 0]
    assert sorted(seen) == list(range(FIRST, FIRST + SECOND))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_goes_on_where_it_stopped(accumulate: int) -> None:
    whole = order(40, accumulate=accumulate)
    for step in (1, 7, 13):
        start = step * accumulate
        assert order(40 - start, step=step, accumulate=accumulate) == whole[start:]


def test_a_batch_is_cut_among_processes_and_micro_batches() -> None:
    whole = order(9)
    halves = [order(9, batch_size=1, rank=rank, processes=2) for rank in (0, 1)]
    assert [left + right for left, right in zip(*halves, strict=True)] == whole
    pieces = order(18, batch_size=1, accumulate=2)
    assert [pieces[at] + pieces[at + 1] for at in range(0, 18, 2)] == whole


def test_a_run_that_is_cut_again_sees_the_same_images_in_each_step() -> None:
    begun = Cut.at_first(batch_size=2, accumulate=2, processes=1)  # twelve images are three steps
    whole = order(40, accumulate=2)
    steps = [whole[at] + whole[at + 1] for at in range(0, 40, 2)]
    again = [order(20 - 7, begun=begun, step=7, batch_size=1, processes=4, rank=rank) for rank in range(4)]
    assert [list(chain(*parts)) for parts in zip(*again, strict=True)] == steps[7:]
    alone = order(4 * (20 - 5), begun=begun, step=5, batch_size=1, accumulate=4)
    assert [list(chain(*alone[at : at + 4])) for at in range(0, 60, 4)] == steps[5:]


def test_an_epoch_is_one_of_the_first_kind() -> None:
    second = SecondKind(length=SECOND, ratio=4.0, batch_size=4)
    data = TrainingData(dataset=None, collate=list, names=["x"] * (FIRST + SECOND), second=second)
    assert data.steps_of_epoch(Cut.at_first(batch_size=2, accumulate=1, processes=1)) == 18
    with pytest.raises(ValueError, match="leaves none of them"):
        order(1, ratio=0.0)


def test_weighted_images_come_by_their_weights() -> None:
    weights = torch.tensor([1.0, 0.0, 3.0])
    batches = islice(EpochSampler(3, batch_size=1, weights=weights), 3000)
    seen = [index for batch in batches for _, index in batch]
    assert 1 not in seen
    assert seen.count(2) / 3000 == pytest.approx(0.75, abs=0.04)
