"""What one kind of training says of itself; all else is the engine's.

A family's `train.py` is such a task and a function:

    class ToyTask(Task[ToyBatch]):
        writes = ("toy.safetensors",)

        def __init__(self, config: ToyConfig, world: World) -> None:
            self.config = config                                    # the engine has seeded the global generator
            self.clip = load_clip(config.model, device=world.device).requires_grad_(False)
            self.model = ToyHead(self.clip.embed_dim).to(world.device)  # what learns, bare
            self.images = open_toy(config.annotations, config.images)

        def data(self) -> TrainingData:
            return TrainingData(dataset=ToyDataset(self.images, seed=self.config.seed), collate=collate_toy,
                                names=self.images.names)

        def counts(self, batch: ToyBatch) -> dict[str, float]:
            return {"regions": float(batch.num_regions)}            # what the loss averages over

        def losses(self, model: nn.Module, batch: ToyBatch, step: Step) -> dict[str, Tensor]:
            points = [torch.rand(9, 2, generator=step.generator("points", name)) for name in batch.names]
            return {"toy": model(batch.images_B3HW, points).sum() / step.totals["regions"]}  # this micro-batch's share

        def identity(self) -> dict[str, str]:
            return {"weights of the CLIP": self.clip.weights_hash(), "classes": digest_of(self.images.class_names)}

        def save(self, card: Mapping[str, Any]) -> dict[str, Path]:
            return {"model": save_toy(self.model, self.config.out / "toy.safetensors", card=card)}


    def train_toy(config: ToyConfig | None = None, /, *, recipe: str | None = None, **options: Any) -> TrainResult:
        return train(ToyTask, resolve(ToyConfig, TOY_RECIPES, config, recipe=recipe, **options))

`ToyConfig` extends `RunConfig`, which brings all that trainings share; its method `check` refuses what makes no sense.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from clipself.engine.config import RunConfig
from clipself.engine.loader import TrainingData
from clipself.engine.optim import decay_groups
from clipself.engine.result import TrainResult
from clipself.engine.share import Share
from clipself.engine.step import Step
from clipself.layers.norms import BatchNorm
from clipself.text.printable import name_bytes


class Batch(Protocol):
    """What every batch can do."""

    @property
    def names(self) -> tuple[str, ...]:
        """Where each image came from; its number is the batch's length."""

    def to(self, device: torch.device | str, /) -> Self:
        """The same batch on another device."""


B = TypeVar("B", bound=Batch)


@runtime_checkable
class Digested(Protocol):
    """Names that may be told apart from others without being made."""

    def digest(self) -> str | None:
        """Of all of them in their order; None where they have to be made for it."""


class Task(ABC, Generic[B]):
    """One kind of training: its model, data, loss, evaluation and files.

    It is made with the run's settings and the world; the global generator is seeded by then, so that new weights follow
    from the seed.

    Attributes:
        writes: Names of what `save` writes into the run's folder; a run that is begun anew removes them first.
        config: The run's settings.
        model: The trained module, bare; its parameters that learn require gradients, all others don't.
    """

    writes: ClassVar[Sequence[str]] = ()
    config: RunConfig
    model: nn.Module

    @abstractmethod
    def data(self) -> TrainingData:
        """Samples, their collation and the names of the images."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """AdamW's groups, with "lr_scale" where the rate is another: matrices decay, vectors don't."""
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = decay_groups(learning, weight_decay=self.config.weight_decay)
        return groups

    def kept(self) -> Sequence[Tensor]:
        """What the model carries along without learning it, such as running means; saved and restored too."""
        return ()

    @abstractmethod
    def counts(self, batch: B) -> Mapping[str, Tensor | float]:
        """What the loss averages over, by name, such as {"regions": n}; vectors are allowed."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: B, step: Step) -> Mapping[str, Tensor]:
        """Named terms, each this micro-batch's share of the step; the loop adds them up.

        Args:
            model: `self.model`, possibly wrapped for many processes or compiled: call this one.
            batch: On the world's device.
            step: Its `totals` are the counts of all micro-batches and processes: divide by these.
        """

    def identity(self) -> Mapping[str, Any]:
        """Facts beyond settings and image names that a continuation must share: digests of weights and class names."""
        return {}

    def describe(self, images: int, steps: int) -> str:
        """One line that says what will train on what."""
        millions = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad) / 1e6
        return f"{self.config.model}: {millions:.1f} M parameters learn on {images} images, {steps} steps"

    def whole_batches(self) -> bool:
        """Whether images of a micro-batch learn from one another, those of all processes included.

        A run goes on with other processes at equal images a step; where they do, a micro-batch keeps its images too.
        """
        return any(isinstance(one, BatchNorm) for one in self.model.modules())

    def evaluate(self, share: Share) -> Mapping[str, Any]:
        """Scores of the model as it is, in every process; the engine brings it back to training mode.

        Args:
            share: Gives each process its part of the pictures, and all of them what was found in all pictures.
        """
        raise NotImplementedError(f"{type(self).__name__} has no evaluation within a run")

    def flush(self) -> None:
        """Called in every process with each saved state: caches go to the disk."""

    @abstractmethod
    def save(self, card: Mapping[str, Any]) -> Mapping[str, Path]:
        """Writes what was trained, in evaluation mode, on the main process.

        Args:
            card: Steps, losses and settings, to be kept with the weights.

        Returns:
            What was written, by name, for the result.
        """

    def advice(self, result: TrainResult) -> Sequence[str]:
        """Lines under the result: what to run next."""
        return ()


def digest_of(names: Iterable[str]) -> str:
    """A short digest of names in their order; names that are too many to be made know their own."""
    known = names.digest() if isinstance(names, Digested) else None
    if known is not None:
        return known
    digest = hashlib.sha256()
    for name in names:
        digest.update(name_bytes(f"{name}\n"))
    return digest.hexdigest()[:16]
