"""How every training run begins: anew or where its state ends, its settings written down, its order of images fixed."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from clipself.engine.checkpoint import load_state
from clipself.engine.old_loop import Loop, LoopConfig
from clipself.engine.sampler import EpochSampler
from clipself.files import write_json

log = logging.getLogger(__name__)


class TrainSettings(Protocol):
    """What the settings of every training have in common; see the fields of `DistillConfig`."""

    @property
    def out(self) -> Path:
        """Folder of the run."""

    @property
    def batch_size(self) -> int:
        """Images of one process in a micro-batch."""

    @property
    def accumulate(self) -> int:
        """Micro-batches of a step."""

    @property
    def lr(self) -> float:
        """Peak learning rate."""

    @property
    def clip_norm(self) -> float | None:
        """Largest norm of all gradients."""

    @property
    def seed(self) -> int:
        """Of the order of images."""

    @property
    def save_every(self) -> int:
        """Steps between training states."""

    @property
    def resume(self) -> bool:
        """Whether an earlier run goes on."""

    def to_json(self) -> Mapping[str, Any]:
        """Plain values."""


def loop_config(config: TrainSettings, *, total_steps: int, warmup_steps: int, evaluate_every: int = 0) -> LoopConfig:
    """The loop's part of a run's settings."""
    return LoopConfig(
        total_steps=total_steps, lr=config.lr, warmup_steps=warmup_steps, accumulate=config.accumulate,
        clip_norm=config.clip_norm, save_every=config.save_every, evaluate_every=evaluate_every,
    )  # fmt: skip


def begin_run(loop: Loop[Any], config: TrainSettings, *, images: int, summary: str) -> tuple[int, EpochSampler]:
    """Takes up the state of an earlier run where that was asked for, and writes `config.json`.

    Args:
        loop: Not yet run.
        config: The run's settings.
        images: In the data set.
        summary: A line for the log.

    Returns:
        Steps already made, and the batches that follow them.

    Raises:
        ValueError: The state belongs to a run with other settings, or there are too few images for a batch.
    """
    world = loop.world
    start = loop.restore(load_state(loop.state_path)) if config.resume and loop.state_path.exists() else 0
    loop.log.drop_after(start)
    if world.is_main:
        write_json(config.out / "config.json", config.to_json())
        log.info("%s", summary)
    sampler = EpochSampler(
        images, batch_size=config.batch_size, rank=world.rank, world_size=world.size, seed=config.seed,
        start_batch=start * config.accumulate,
    )  # fmt: skip
    return start, sampler
