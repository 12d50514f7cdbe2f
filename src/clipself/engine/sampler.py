"""The order in which a run sees its images."""

import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import Final

import torch
from torch import Tensor
from torch.utils.data import Sampler

from clipself.engine.permutation import permuted
from clipself.engine.step import generator_of

MOST_SHUFFLED: Final = 1_000_000
"""Images of a data set that is shuffled as a list; the order of more is computed place by place, by `permuted`."""
MOST_WEIGHTED: Final = 2**24
"""Images among which `torch.multinomial` draws."""


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index), endless; a global batch is cut among the ranks, so N x b is one process with N * b.

    Up to `MOST_SHUFFLED` images are shuffled by Python's generator; the order of more is a keyed permutation, which
    needs no list and begins at any place at once. Both follow from the seed and the epoch alone.

    Args:
        length: Images in the data set.
        batch_size: Images of one rank in a batch.
        rank: This process.
        world_size: How many processes there are.
        seed: Seed of the permutations.
        start_batch: Batches that an earlier run has seen.
        weights: How often each image is drawn: an epoch is then as many draws with replacement.
        order: Key of an epoch -> its indices, each once, for data that want to be read in streams; drawn at random
            among all if not given.
        unit: An epoch is a whole number of so many images; a global batch if not given. See `Cut`.

    Raises:
        ValueError: There are fewer images than one global batch, or more weighted ones than can be drawn among.
    """

    def __init__(
        self, length: int, *, batch_size: int, rank: int = 0, world_size: int = 1, seed: int = 0, start_batch: int = 0,
        weights: Tensor | None = None, order: Callable[[str], Iterable[int]] | None = None, unit: int | None = None,
    ) -> None:  # fmt: skip
        self.global_batch = batch_size * world_size
        unit = unit or self.global_batch
        if length < unit:
            raise ValueError(
                f"{length} images do not fill one batch of {batch_size} on {world_size} processes; "
                f"use a batch size of at most {length // world_size}"
            )
        if weights is not None and length > MOST_WEIGHTED:
            raise ValueError(
                f"{length} images cannot be drawn by weights, {MOST_WEIGHTED} are the most; take fewer, or no weights"
            )
        self.length, self.batch_size, self.rank = length, batch_size, rank
        self.seed, self.start_batch, self.weights = seed, start_batch, weights
        self.per_epoch = length // unit * unit
        self.own_order = order

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        images, start = self._images(self.start_batch * self.global_batch), self.rank * self.batch_size
        while True:
            yield list(islice(images, self.global_batch))[start : start + self.batch_size]

    def _images(self, seen: int) -> Iterator[tuple[int, int]]:
        """All images of the run, behind those that were seen."""
        epoch, place = divmod(seen, self.per_epoch)
        while True:
            for index in islice(self._order(epoch, place), self.per_epoch - place):
                yield epoch, index
            epoch, place = epoch + 1, 0

    def _order(self, epoch: int, place: int) -> Iterator[int]:
        """The indices of an epoch from a place on."""
        key = f"{self.seed}/{epoch}"
        if self.own_order is not None:
            return islice(self.own_order(key), place, None)
        if self.weights is not None:
            chance = generator_of(self.seed, "order", epoch)
            drawn = torch.multinomial(self.weights, self.length, replacement=True, generator=chance)
            return islice(array("q", drawn.numpy().tobytes()), place, None)
        if self.length > MOST_SHUFFLED:
            return permuted(self.length, key=key, start=place)
        order = array("q", range(self.length))  # 8 bytes an image, where a list of numbers takes 40
        random.Random(key).shuffle(order)
        return islice(order, place, None)


class MixedSampler(Sampler[list[tuple[int, int]]]):
    """Batches of images of two kinds, never mixed: every process and every micro-batch of a step sees the same kind.

    Steps of the second kind are spread evenly among those of the first, so that what comes when follows from the number
    of the step alone. Images of the second kind have the indices behind those of the first.

    Source of the mixture: Detic (arXiv:2201.02605), Sec. 3.4: images are drawn by a ratio of kinds, gathered to batches
    of one kind whose sizes differ, since images of one kind are smaller. There the next kind is left to chance.

    Args:
        kinds: Order of the images of each kind, from its first batch on; `start_batch` is set here.
        ratio: Images of the second kind to one of the first.
        accumulate: Micro-batches of a step.
        start_batch: Batches of both kinds that an earlier run has seen.

    Raises:
        ValueError: The ratio is not above 0.
    """

    def __init__(
        self, kinds: tuple[EpochSampler, EpochSampler], *, ratio: float, accumulate: int = 1, start_batch: int = 0
    ) -> None:
        if not ratio > 0:
            raise ValueError(f"a ratio of {ratio} images of the second kind to one of the first leaves none of them")
        self.kinds, self.accumulate, self.start_batch = kinds, accumulate, start_batch
        self.share = share_of_second(ratio, (kinds[0].batch_size, kinds[1].batch_size))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step, place = divmod(self.start_batch, self.accumulate)
        second = self._seconds(step)
        seen = [(step - second) * self.accumulate, second * self.accumulate]
        seen[self._kind(step)] += place
        streams = []
        for kind, batches in zip(self.kinds, seen, strict=True):
            kind.start_batch = batches
            streams.append(iter(kind))
        while True:
            kind_now = self._kind(step)
            offset = self.kinds[0].length if kind_now else 0
            for batch in islice(streams[kind_now], self.accumulate - place):
                yield [(epoch, index + offset) for epoch, index in batch]
            step, place = step + 1, 0

    def _seconds(self, step: int) -> int:
        """Steps of the second kind ahead of a step."""
        return int(step * self.share)

    def _kind(self, step: int) -> int:
        return self._seconds(step + 1) - self._seconds(step)


def share_of_second(ratio: float, batch_sizes: Sequence[int]) -> Fraction:
    """Share of the steps that are of the second kind.

    Args:
        ratio: Images of the second kind to one of the first.
        batch_sizes: Images of a batch of each kind.
    """
    second = Fraction(ratio).limit_denominator(10_000) / batch_sizes[1]
    return second / (second + Fraction(1, batch_sizes[0]))
