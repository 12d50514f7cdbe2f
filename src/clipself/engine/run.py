"""One run, for every kind of training: opened, resumed or begun anew, trained, saved."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from clipself.backbones.devices import pick_device
from clipself.engine.checkpoint import save_state
from clipself.engine.config import RunConfig, flat
from clipself.engine.distributed import World, join_world
from clipself.engine.folder import RunFolder, open_folder
from clipself.engine.loader import load_batches
from clipself.engine.log import RunLog
from clipself.engine.loop import Loop, learning_of
from clipself.engine.optim import SCHEDULES, warmup_constant
from clipself.engine.precision import make_precision
from clipself.engine.result import TrainResult, measure
from clipself.engine.sampler import EpochSampler
from clipself.engine.task import Task, digest_of
from clipself.files import write_json

log = logging.getLogger(__name__)
C = TypeVar("C", bound=RunConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """Steps under one schedule: the whole run, or what a longer continuation adds.

    Attributes:
        start: Steps made ahead of it.
        end: Steps made at its end.
    """

    start: int
    end: int


def train(task_type: Callable[[C, World], Task[Any]], config: C) -> TrainResult:
    """Trains what a task says, and saves it.

    Args:
        task_type: Class of the task.
        config: The run's settings.

    Returns:
        Where everything is and how the loss went.

    Raises:
        ValueError: A setting, the data or a model does not fit, or the state belongs to a run with other settings.
        FileNotFoundError: A file or folder is missing, or there is no run to go on with.
        FileExistsError: The folder holds a run, and neither resume nor overwrite was asked for; or one runs there now.
        FloatingPointError: Loss, gradients or weights became NaN or infinite.
        KeyboardInterrupt: Asked to stop; the state was saved.
    """
    writes = getattr(task_type, "writes", ())
    with join_world(pick_device(config.device)) as world, open_folder(config, writes, world) as folder:
        with own_chance(config.seed, world):
            task = task_type(config, world)
            result = _run(task, config, folder, world)
        world.wait()
    return result


@contextmanager
def own_chance(seed: int, world: World) -> Iterator[None]:
    """The global generator follows the run's seed within, and is the caller's again after it."""
    devices = [world.device] if world.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _run(task: Task[Any], config: RunConfig, folder: RunFolder, world: World) -> TrainResult:
    data = task.data()
    groups: Any = task.parameter_groups()
    optimizer = torch.optim.AdamW(
        groups, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay
    )
    precision = make_precision(config.precision, world.device)
    per_epoch = max(1, len(data) // (config.batch_size * world.size * config.accumulate))
    total = config.max_steps or max(1, round(config.epochs * per_epoch))
    identity = {"processes": world.size, "images": f"{len(data)} with digest {digest_of(data.names)}"}
    keeper = StateKeeper(task, config, folder, optimizer, precision.scaler, {**identity, **task.identity()})
    start, phase = keeper.take_up(total) if config.resume else (0, Phase(start=0, end=total))
    sampler = EpochSampler(
        len(data), batch_size=config.batch_size, rank=world.rank, world_size=world.size, seed=config.seed,
        start_batch=start * config.accumulate,
    )  # fmt: skip
    folder.begin(config)
    run_log = RunLog(config.out, active=world.is_main, tensorboard=config.tensorboard)
    try:
        run_log.drop_after(start)
        if world.is_main:
            log.info("%s", task.describe(len(data), total))
        loop: Loop[Any] = Loop(
            task=task, config=config, world=world, log=run_log, optimizer=optimizer, precision=precision,
            total_steps=total, rate=rate_of(config, phase, per_epoch), save=partial(keeper.save, phase),
            state_path=folder.state_path,
        )  # fmt: skip
        loop.run(load_batches(data, sampler, workers=config.workers, device=world.device), start_step=start)
        return _finish(task, config, world, total)
    finally:
        run_log.close()


def _finish(task: Task[Any], config: RunConfig, world: World, steps: int) -> TrainResult:
    result = measure(config.out, steps)
    if world.is_main:
        task.model.eval()
        card = {"settings": config.to_json(), "steps": steps, "loss": [result.first_loss, result.last_loss]}
        result = result.with_saved(task.save(card))
        write_json(config.out / "result.json", result.to_json())
    return result.with_advice(task.advice(result))


def rate_of(config: RunConfig, phase: Phase, per_epoch: int) -> Callable[[int], float]:
    """The learning rate of each step: a phase warms up and falls by itself."""
    length = phase.end - phase.start
    warmup = config.warmup_steps if config.exact_warmup else min(config.warmup_steps, length // 10)
    schedule = SCHEDULES[config.schedule]
    if config.drop_epochs:
        drops = [round(epoch * per_epoch) - phase.start for epoch in config.drop_epochs]
        schedule = partial(warmup_constant, drops=drops)

    def rate(step: int) -> float:
        return schedule(step - phase.start, lr=config.lr, warmup_steps=warmup, total_steps=length)

    return rate


class StateKeeper:
    """Writes the training state and takes it up again; only what learns, and what it carries along, is in it.

    Args:
        task: What is trained.
        config: The run's settings.
        folder: Where the state lies.
        optimizer: Of the run.
        scaler: Of float16; switched off otherwise.
        identity: Facts beyond settings that a continuation must share.
    """

    def __init__(
        self, task: Task[Any], config: RunConfig, folder: RunFolder, optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler, identity: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.task, self.folder, self.optimizer, self.scaler = task, folder, optimizer, scaler
        self.facts = {"settings": config.compared(), "identity": {name: str(fact) for name, fact in identity.items()}}

    def save(self, phase: Phase, step: int) -> None:
        """Writes the state after so many steps."""
        self.task.flush()
        if not self.folder.world.is_main:
            return
        save_state(
            self.folder.state_path,
            {
                "step": step,
                "phase": [phase.start, phase.end],
                **self.facts,
                "learning": [parameter.detach().cpu() for parameter in learning_of(self.task)],
                "kept": [tensor.detach().cpu().clone() for tensor in self.task.kept()],
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
            },
        )

    def take_up(self, total: int) -> tuple[int, Phase]:
        """Brings back the state of an earlier run, if it came to save one.

        Args:
            total: Steps that the run shall have in all.

        Returns:
            Steps already made, and the phase that they stand in.

        Raises:
            FileNotFoundError: There is no run.
            ValueError: The state belongs to a run with other settings, or is further than this one shall go.
        """
        state = self.folder.state_to_resume()
        if state is None:
            return 0, Phase(start=0, end=total)
        self._compare(state)
        step, phase = int(state["step"]), Phase(start=state["phase"][0], end=state["phase"][1])
        if total < phase.end:
            raise ValueError(
                f"the run in {self.folder.out} was to have {phase.end} steps and has made {step}; {total} are fewer: a "
                "run can be lengthened, not shortened"
            )
        if total > phase.end:
            phase = Phase(start=step, end=total)
            if self.folder.world.is_main:
                log.info("a new phase: steps %d to %d, with a warm-up and a schedule of its own", step + 1, total)
        with torch.no_grad():
            for parameter, kept in zip(learning_of(self.task), state["learning"], strict=True):
                parameter.copy_(kept)
            for tensor, kept in zip(self.task.kept(), state["kept"], strict=True):
                tensor.copy_(kept)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        return step, phase

    def _compare(self, state: Mapping[str, Any]) -> None:
        differing = []
        for kind, facts in self.facts.items():
            then, now = flat(state[kind]), flat(facts)
            differing += [
                f"{name} was {then.get(name)!r} and is {now.get(name)!r}"
                for name in sorted(then.keys() | now.keys())
                if not _equal(then.get(name), now.get(name))
            ]
        if differing:
            raise ValueError(
                f"{self.folder.state_path} belongs to a run with other settings: {'; '.join(differing)}; leave out "
                "what differs to go on with that run, or choose another folder"
            )


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, float) and math.isnan(one):
        return math.isnan(two)
    return bool(one == two)
