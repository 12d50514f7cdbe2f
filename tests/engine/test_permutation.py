"""The order of very many images: each once, from any place on, and without a list of them."""

import hashlib
import math
import random
import tracemalloc
from collections import Counter
from itertools import islice

import pytest
import torch

from clipself.engine import sampler
from clipself.engine.permutation import AT_ONCE, permuted
from clipself.engine.sampler import MOST_SHUFFLED, EpochSampler


@pytest.mark.parametrize("length", [1, 2, 3, 5, 17, 100, 1000, 3 * AT_ONCE + 7])
def test_each_number_comes_once_and_an_order_begins_anywhere(length: int) -> None:
    order = list(permuted(length, key="0/0"))
    assert sorted(order) == list(range(length))
    assert list(permuted(length, key="0/0", start=length // 3)) == order[length // 3 :]
    assert length < 17 or order != list(permuted(length, key="0/1"))


def test_it_is_the_cipher_written_out_for_one_number() -> None:
    length, most = 10**9 + 7, 2**64
    keys = [int.from_bytes(hashlib.sha512(b"3/1").digest()[8 * n : 8 * n + 8], "little") for n in range(8)]
    rows = math.isqrt(length - 1) + 1
    columns = -(-length // rows)

    def mixed(value: int, key: int) -> int:
        value = (value + key) % most
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % most
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % most
        return value ^ (value >> 31)

    def sent(number: int) -> int:
        row, column = divmod(number, columns)
        for turn, key in enumerate(keys):
            if turn % 2:
                column = (column + mixed(row, key)) % columns
            else:
                row = (row + mixed(column, key)) % rows
        number = row * columns + column
        return number if number < length else sent(number)

    for start in (0, 123_456_789, length - 5):
        found = list(islice(permuted(length, key="3/1", start=start), 50))
        assert found == [sent(place) for place in range(start, min(length, start + 50))]


def test_all_orders_are_as_likely_and_neighbours_lie_anywhere() -> None:
    often = Counter(tuple(permuted(4, key=str(key))) for key in range(4800))
    assert len(often) == 24
    assert sum((count - 200) ** 2 / 200 for count in often.values()) < 49.7  # chi-square of 23, one in a thousand
    length = 50_000
    order = torch.tensor(list(permuted(length, key="7/0")))
    steps = (order[1:] - order[:-1]).abs().double()
    assert float(steps.mean()) == pytest.approx(length / 3, rel=0.02)  # of two uniform draws
    places = torch.stack([torch.arange(length), order, torch.tensor(list(permuted(length, key="7/1")))]).double()
    assert float((torch.corrcoef(places) - torch.eye(3)).abs().max()) < 0.02


def test_data_sets_above_a_million_are_in_that_order(monkeypatch: pytest.MonkeyPatch) -> None:
    few = EpochSampler(MOST_SHUFFLED // 1000, batch_size=8, seed=5)
    monkeypatch.setattr(sampler, "MOST_SHUFFLED", MOST_SHUFFLED // 1000)
    order = list(range(MOST_SHUFFLED // 1000))
    random.Random("5/0").shuffle(order)
    assert next(iter(few)) == [(0, index) for index in order[:8]]  # as ever, up to that number
    many = EpochSampler(MOST_SHUFFLED // 1000 + 2, batch_size=8, seed=5)
    batches = list(islice(iter(many), 250))
    assert batches[0] == [(0, index) for index in islice(permuted(1002, key="5/0"), 8)]
    assert batches[125] == [(1, index) for index in islice(permuted(1002, key="5/1"), 8)]
    assert sorted(index for batch in batches[:125] for _, index in batch) != list(range(1000))  # two are left out
    assert len({index for batch in batches[:125] for _, index in batch}) == 1000
    for start in (1, 124, 125, 200):
        again = EpochSampler(1002, batch_size=8, seed=5, start_batch=start)
        assert list(islice(iter(again), 50)) == batches[start : start + 50]
    halves = [EpochSampler(1002, batch_size=4, world_size=2, rank=rank, seed=5) for rank in (0, 1)]
    assert [one + two for one, two in islice(zip(*halves, strict=True), 250)] == batches


def test_a_hundred_million_images_need_no_memory() -> None:
    tracemalloc.start()
    batch = next(iter(EpochSampler(10**8, batch_size=64, start_batch=4 * 10**6)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {epoch for epoch, _ in batch} == {2}
    assert len(dict.fromkeys(index for _, index in batch)) == 64
    assert peak < 3_000_000


def test_images_drawn_by_weights_are_those_of_the_generator() -> None:
    from clipself.engine.step import generator_of

    weights = torch.rand(40, generator=torch.Generator().manual_seed(0))
    drawn = torch.multinomial(weights, 40, replacement=True, generator=generator_of(3, "order", 0)).tolist()
    found = EpochSampler(40, batch_size=8, seed=3, weights=weights)
    assert [index for batch in islice(iter(found), 5) for _, index in batch] == drawn
    found = EpochSampler(40, batch_size=8, seed=3, weights=weights, start_batch=3)
    assert [index for _, index in next(iter(found))] == drawn[24:32]
    with pytest.raises(ValueError, match=r"16777217 images cannot be drawn by weights, 16777216 are the most"):
        EpochSampler(2**24 + 1, batch_size=8, weights=weights)
