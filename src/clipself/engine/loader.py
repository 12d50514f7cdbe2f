"""One way to load batches, for all trainings: workers change nothing but speed, and their errors are sentences."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from clipself.data.workers import leave_stopping_to_the_run, plain_errors
from clipself.engine.cut import Cut
from clipself.engine.sampler import EpochSampler, MixedSampler, share_of_second

AnySampler = EpochSampler | MixedSampler


@dataclass(frozen=True, kw_only=True, slots=True)
class SecondKind:
    """Images of another kind at the end of a data set, of which batches of their own are made; see `MixedSampler`.

    Attributes:
        length: How many there are.
        ratio: Images of this kind to one of the first.
        batch_size: Images of one process in a micro-batch of this kind.
        weights: How often each is drawn; None for each once in an epoch.
    """

    length: int
    ratio: float
    batch_size: int
    weights: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """What a task trains on.

    Attributes:
        dataset: Maps (epoch, index) to a sample; every draw follows from its seed, the epoch and the index.
        collate: Makes a batch of samples: a function of a module's top level, so that workers can import it.
        names: Of the images, in order: a run is not resumed on others.
        second: What its last images are, where they are of another kind than the first.
        weights: How often each image of the first kind is drawn; None for each once in an epoch.
        order: The order of an epoch by its key, of images that are best read in streams; see `EpochSampler`.
    """

    dataset: Any
    collate: Callable[[Sequence[Any]], Any]
    names: Sequence[str]
    second: SecondKind | None = None
    weights: Tensor | None = None
    order: Callable[[str], Iterable[int]] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def steps_of_epoch(self, cut: Cut) -> int:
        """Optimizer steps in which every image of the first kind is seen once, with those of the second between.

        Args:
            cut: Of a step, with which the run began.
        """
        first = len(self) - (self.second.length if self.second else 0)
        steps = max(1, first // cut.images)
        if self.second is None:
            return steps
        return int(steps / (1 - share_of_second(self.second.ratio, (cut.batch_size, self.second.batch_size))))

    def sampler(self, cut: Cut, *, begun: Cut, rank: int, seed: int, start_step: int) -> AnySampler:
        """The order in which a run sees them.

        Args:
            cut: Of a step.
            begun: With which the run began.
            rank: This process.
            seed: Of the order.
            start_step: Steps that an earlier run has made.

        Raises:
            ValueError: Images of a kind do not fill a batch of all processes.
        """
        shared: Any = {"rank": rank, "world_size": cut.processes, "seed": seed}
        first: Any = {"batch_size": cut.batch_size, "unit": cut.unit, "weights": self.weights, **shared}
        start, second = start_step * cut.accumulate, self.second
        if second is None:
            return EpochSampler(len(self), start_batch=start, order=self.order, **first)
        size, unit = cut.sized(begun, second.batch_size), second.batch_size * begun.processes
        kinds = (
            EpochSampler(len(self) - second.length, **first),
            EpochSampler(second.length, batch_size=size, unit=unit, weights=second.weights, **shared),
        )
        return MixedSampler(kinds, ratio=second.ratio, accumulate=cut.accumulate, start_batch=start)


def load_batches(
    data: TrainingData, sampler: AnySampler, *, workers: int, device: torch.device
) -> Generator[Any, None, None]:
    """Endless batches in the sampler's order; closing them ends the workers.

    Args:
        data: Samples.
        sampler: Their order.
        workers: Processes that make them; 0 makes them here.
        device: Where they go; page-locked on the way to CUDA.

    Raises:
        Exception: What a worker raised, without PyTorch's traceback in its message.
    """
    pin = device.type == "cuda"
    loader = make_loader(data.dataset, sampler, collate=data.collate, workers=workers, pin_memory=pin)
    yield from plain_errors(loader)


def make_loader(
    dataset: Any,
    sampler: AnySampler,
    *,
    collate: Callable[[Sequence[Any]], Any] | None = None,
    workers: int = 2,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """A loader over the sampler's batches.

    Args:
        dataset: Maps (epoch, index) to a sample.
        sampler: The order.
        collate: Makes a batch of samples; the data set's own `collate` if not given.
        workers: Processes that make samples; 0 makes them here.
        pin_memory: Whether batches are page-locked.
    """
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate or dataset.collate,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        prefetch_factor=2 if workers else None,
        worker_init_fn=leave_stopping_to_the_run,
        generator=torch.Generator(),  # the workers' seeds, which nothing uses, else come from the global generator
    )
