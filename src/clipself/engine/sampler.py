"""The order in which a run sees its images."""

import random
from collections.abc import Iterator

from torch.utils.data import Sampler


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index), endless; a global batch is cut among the ranks, so N x b is one process with N * b.

    Args:
        length: Images in the data set.
        batch_size: Images of one rank in a batch.
        rank: This process.
        world_size: How many processes there are.
        seed: Seed of the permutations.
        start_batch: Batches that an earlier run has seen.

    Raises:
        ValueError: There are fewer images than one global batch.
    """

    def __init__(
        self, length: int, *, batch_size: int, rank: int = 0, world_size: int = 1, seed: int = 0, start_batch: int = 0
    ) -> None:
        self.global_batch = batch_size * world_size
        if length < self.global_batch:
            raise ValueError(
                f"{length} images do not fill one batch of {batch_size} on {world_size} processes; "
                f"use a batch size of at most {length // world_size}"
            )
        self.length, self.batch_size, self.rank = length, batch_size, rank
        self.seed, self.start_batch = seed, start_batch
        self.batches_per_epoch = length // self.global_batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batch = self.start_batch
        while True:
            epoch, place = divmod(batch, self.batches_per_epoch)
            order = list(range(self.length))
            random.Random(f"{self.seed}/{epoch}").shuffle(order)
            for step in range(place, self.batches_per_epoch):
                start = step * self.global_batch + self.rank * self.batch_size
                yield [(epoch, index) for index in order[start : start + self.batch_size]]
                batch += 1
