"""A training of a few numbers, on the whole engine: milliseconds a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from clipself.engine.callbacks import Callback
from clipself.engine.config import RunConfig
from clipself.engine.distributed import World
from clipself.engine.fields import UNSET
from clipself.engine.loader import TrainingData
from clipself.engine.loop import Loop
from clipself.engine.resolve import resolve
from clipself.engine.result import TrainResult
from clipself.engine.run import train
from clipself.engine.share import Share
from clipself.engine.step import Step, generator_of
from clipself.engine.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class ToySettings:
    """Nested settings."""

    width: int = 3
    names: tuple[str, ...] = ("one",)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToyConfig(RunConfig):
    """Fits a line to numbers."""

    data: Path
    """Folder that nothing reads."""
    points: int = 4
    """Drawn for each number in each step."""
    head: ToySettings = ToySettings()
    """Nested."""
    lists: tuple[Path, ...] = ()
    """Some files."""
    kind: str = "line"
    """Free text."""

    def check(self) -> None:
        """Refuses no points."""
        self.check_counts("points")


def small() -> ToyConfig:
    """Eight numbers, six steps."""
    return ToyConfig(
        data=UNSET, out=UNSET, max_steps=6, batch_size=4, lr=1e-2, workers=0, precision="fp32", device="cpu",
        save_every=2, warmup_steps=0, head=ToySettings(width=2),
    )  # fmt: skip


def large() -> ToyConfig:
    """Another recipe."""
    return replace(small(), lr=1e-3, max_steps=None, epochs=5)


TOY_RECIPES: Final[Mapping[str, Callable[[], ToyConfig]]] = {"small": small, "large": large}


@dataclass(frozen=True, kw_only=True, slots=True)
class ToyBatch:
    """Numbers; each counts for as many items as its index is odd or even."""

    numbers_B: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device | str) -> "ToyBatch":
        """The same elsewhere."""
        return replace(self, numbers_B=self.numbers_B.to(device))


class ToyNumbers(Dataset[tuple[float, str]]):
    """Numbers that differ by epoch and index."""

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self.names, self.seed = names, seed

    def __getitem__(self, key: Any) -> tuple[float, str]:
        epoch, index = key
        drawn = torch.rand((), generator=generator_of(self.seed, epoch, index))
        return float(drawn) + index, self.names[index]


def collate_toy(samples: Sequence[tuple[float, str]]) -> ToyBatch:
    return ToyBatch(numbers_B=torch.tensor([one[0] for one in samples]), names=tuple(one[1] for one in samples))


class ToyTask(Task[ToyBatch]):
    """Two terms: one averaged over items, one over images and points drawn by name."""

    writes = ("toy.pt",)
    names: tuple[str, ...] = tuple(f"{place}.png" for place in range(8))
    evaluations: tuple[int, ...] = ()

    def __init__(self, config: ToyConfig, world: World) -> None:
        self.config: ToyConfig = config
        self.model = nn.Sequential(nn.Linear(1, config.head.width), nn.Dropout(0.0), nn.Linear(config.head.width, 1))
        self.model.to(world.device)

    def data(self) -> TrainingData:
        return TrainingData(dataset=ToyNumbers(self.names, self.config.seed), collate=collate_toy, names=self.names)

    def counts(self, batch: ToyBatch) -> dict[str, Tensor | float]:
        return {"items": items_of(batch).sum(), "images": float(len(batch.names)), "each": torch.ones(2)}

    def losses(self, model: nn.Module, batch: ToyBatch, step: Step) -> dict[str, Tensor]:
        points = torch.stack(
            [torch.rand(self.config.points, generator=step.generator("points", name)) for name in batch.names]
        )
        wanted = batch.numbers_B[:, None] + points.to(batch.numbers_B)
        error = (model(batch.numbers_B[:, None]) - wanted).square().mean(1)
        weighed = (error * items_of(batch).to(error)).sum() / step.totals["items"]
        return {"items_error": weighed, "images_error": 0.5 * error.sum() / step.totals["images"]}

    def identity(self) -> dict[str, str]:
        return {"kind of toy": "first"}

    def evaluate(self, share: Share) -> dict[str, float]:
        self.model.eval()
        return {"slope": float(next(self.model.parameters()).detach().sum())}

    def save(self, card: Mapping[str, Any]) -> dict[str, Path]:
        assert not self.model.training
        path = self.config.out / "toy.pt"
        torch.save({"weights": self.model.state_dict(), "steps": card["steps"]}, path)
        return {"toy": path}

    def advice(self, result: TrainResult) -> Sequence[str]:
        return (f"next: look at {self.config.out}",)


def items_of(batch: ToyBatch) -> Tensor:
    """How many items each number stands for: images weigh unequally."""
    return torch.tensor([1.0 + int(name.split(".")[0]) % 3 for name in batch.names])


def train_toy(
    config: ToyConfig | Mapping[str, Any] | str | Path | None = None,
    /,
    *,
    recipe: str | None = None,
    task: type[ToyTask] = ToyTask,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
    **options: Any,
) -> TrainResult:
    """Trains it as families do."""
    settings = resolve(ToyConfig, TOY_RECIPES, config, recipe=recipe, **options)
    return train(task, settings, on_step=on_step, on_evaluate=on_evaluate)


def weights_of(out: Path) -> dict[str, Tensor]:
    """What a run has saved."""
    held: dict[str, Tensor] = torch.load(out / "toy.pt", weights_only=True)["weights"]
    return held


def act_at(patch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> None:
    """Does something ahead of a step, in whatever is trained from then on."""
    step = Loop._step

    def acting(self: Any, model: Any, stream: Any, at: int, bar: Any) -> None:
        if at == number:
            act()
        step(self, model, stream, at, bar)

    patch.setattr(Loop, "_step", acting)


def kill() -> None:
    """Ends a process as a kill does, for who waits for it by `pytest.raises(SystemExit)`."""
    raise SystemExit("killed")
