"""One way to load batches, for all trainings: workers change nothing but speed, and their errors are sentences."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from clipself.data.workers import plain_errors
from clipself.engine.sampler import EpochSampler


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """What a task trains on.

    Attributes:
        dataset: Maps (epoch, index) to a sample; every draw follows from its seed, the epoch and the index.
        collate: Makes a batch of samples: a function of a module's top level, so that workers can import it.
        names: Of the images, in order: a run is not resumed on others.
    """

    dataset: Any
    collate: Callable[[Sequence[Any]], Any]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)


def load_batches(data: TrainingData, sampler: EpochSampler, *, workers: int, device: torch.device) -> Iterator[Any]:
    """Endless batches in the sampler's order.

    Args:
        data: Samples.
        sampler: Their order.
        workers: Processes that make them; 0 makes them here.
        device: Where they go; page-locked on the way to CUDA.

    Raises:
        Exception: What a worker raised, without PyTorch's traceback in its message.
    """
    pin = device.type == "cuda"
    return plain_errors(make_loader(data.dataset, sampler, collate=data.collate, workers=workers, pin_memory=pin))


def make_loader(
    dataset: Any,
    sampler: EpochSampler,
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
        generator=torch.Generator(),  # the workers' seeds, which nothing uses, else come from the global generator
    )
