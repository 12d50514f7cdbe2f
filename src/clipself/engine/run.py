"""One run, for every kind of training: opened, resumed or begun anew, trained, saved."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, TypeVar

import torch

from clipself.backbones.devices import pick_device
from clipself.backbones.fast_init import in_float32
from clipself.choices import pick
from clipself.engine.average import MovingAverage
from clipself.engine.callbacks import Callback, Callbacks
from clipself.engine.config import RunConfig, shareable
from clipself.engine.cut import cut_again
from clipself.engine.distributed import World, join_world
from clipself.engine.folder import RunFolder, open_folder
from clipself.engine.loader import load_batches
from clipself.engine.log import RunLog
from clipself.engine.loop import Loop, learning_of
from clipself.engine.optim import OPTIMIZERS, SCHEDULES, warmup_constant
from clipself.engine.precision import make_precision, resolve_precision
from clipself.engine.result import TrainResult, measure
from clipself.engine.state import Phase, StateKeeper
from clipself.engine.stopping import StopRequest, stop_requests
from clipself.engine.task import Task, digest_of
from clipself.engine.trackers import check_trackers
from clipself.files import write_json

log = logging.getLogger(__name__)
C = TypeVar("C", bound=RunConfig)


def train(
    task_type: Callable[[C, World], Task[Any]],
    config: C,
    *,
    on_step: Callback | None = None,
    on_evaluate: Callback | None = None,
) -> TrainResult:
    """Trains what a task says, and saves it.

    Args:
        task_type: Class of the task.
        config: The run's settings.
        on_step: Called with the run's `Progress` after each optimizer step, in the main process.
        on_evaluate: Likewise after each evaluation.

    Returns:
        Where everything is and how the loss went.

    Raises:
        ValueError: A setting, the data or a model does not fit, or the state belongs to a run with other settings.
        FileNotFoundError: A file or folder is missing, or there is no run to go on with.
        FileExistsError: The folder holds a run, and neither resume nor overwrite was asked for; or one runs there now.
        FloatingPointError: Loss, gradients or weights became NaN or infinite.
        ImportError: The library of a tracker is missing.
        Stopped: Asked to stop, by Ctrl-C or a scheduler's signal; the state was saved.
    """
    callbacks = Callbacks(on_step=on_step, on_evaluate=on_evaluate)
    check_trackers(config.track)
    writes = getattr(task_type, "writes", ())
    with (
        stop_requests() as stop,
        join_world(pick_device(config.device)) as world,
        open_folder(config, writes, world) as folder,
    ):
        # Whatever the caller's chance, dtype and mode are.
        with own_chance(config.seed, world), in_float32(), torch.inference_mode(False), torch.enable_grad():
            task = task_type(config, world)
            result = _run(task, config, folder, world, stop, callbacks)
        world.wait()
    return result


@contextmanager
def own_chance(seed: int, world: World) -> Iterator[None]:
    """The global generator follows the run's seed within, and is the caller's again after it."""
    devices = [world.device] if world.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _run(
    task: Task[Any], config: RunConfig, folder: RunFolder, world: World, stop: StopRequest, callbacks: Callbacks
) -> TrainResult:
    data = task.data()
    groups: Any = task.parameter_groups()
    if not any(group["params"] for group in groups):
        raise ValueError(
            "no weight learns with these settings; let at least one block, tower or head of the model learn"
        )
    optimizer = pick(OPTIMIZERS, config.optimizer, what="optimizer")(groups, config)
    learning = learning_of(task.model, groups)
    average = MovingAverage(learning, config.ema)
    # All take what the first has measured: their gradients are averaged.
    precision = make_precision(world.every(resolve_precision(config.precision, world.device))[0], world.device)
    state = folder.state_to_resume(config.resume)
    begun = folder.cut_of(config, state)
    cut = cut_again(
        begun, batch_size=config.batch_size, accumulate=config.accumulate, processes=world.size,
        whole=task.whole_batches(), sizes=() if data.second is None else (data.second.batch_size,),
    )  # fmt: skip
    per_epoch = data.steps_of_epoch(begun)
    total = config.max_steps or max(1, round(config.epochs * per_epoch))
    facts = {"images": f"{len(data)} with digest {digest_of(data.names)}", **task.identity()}
    keeper = StateKeeper(task, config, folder, learning, average, optimizer, precision.scaler, facts, begun)
    start, phase = keeper.take_up(state, total)
    sampler = data.sampler(cut, begun=begun, rank=world.rank, seed=config.seed, start_step=start)
    if world.is_main and cut != begun:
        log.info("each of %d processes takes %d micro-batches of %d images a step, so that it has %d as before",
                 cut.processes, cut.accumulate, cut.batch_size, cut.images)  # fmt: skip
    resumed = bool(config.resume) and (config.out / "config.json").exists()
    folder.begin(config, begun)
    with _log_of(config, world, start, resumed=resumed) as run_log:
        if world.is_main:
            log.info("%s", task.describe(len(data), total))
        loop: Loop[Any] = Loop(
            task=task, config=config, accumulate=cut.accumulate, world=world, stop=stop, log=run_log,
            learning=learning, optimizer=optimizer, average=average, precision=precision, total_steps=total,
            rate=rate_of(config, phase, per_epoch),
            save=partial(keeper.save, phase), state_path=folder.state_path, callbacks=callbacks,
        )  # fmt: skip
        with closing(load_batches(data, sampler, workers=config.workers, device=world.device)) as batches:
            made = loop.run(batches, start_step=start)
        with average.in_place():
            return _finish(task, config, world, made)


@contextmanager
def _log_of(config: RunConfig, world: World, start: int, *, resumed: bool) -> Iterator[RunLog]:
    """The run's log, which is told whether the run has come to its end."""
    run_log = RunLog(
        config.out, active=world.is_main, track=config.track, settings=config.to_json(), start=start,
        resumed=resumed,
    )  # fmt: skip
    finished = False
    try:
        yield run_log
        finished = True
    finally:
        run_log.close(finished=finished)


def _finish(task: Task[Any], config: RunConfig, world: World, steps: int) -> TrainResult:
    result = measure(config.out, steps)
    if world.is_main:
        task.model.eval()
        card = {"settings": shareable(config), "steps": steps, "loss": [result.first_loss, result.last_loss]}
        result = result.with_saved(task.save(card))
        write_json(config.out / "result.json", result.to_json())
    return result.with_advice(task.advice(result))


def rate_of(config: RunConfig, phase: Phase, per_epoch: int) -> Callable[[int], float]:
    """The learning rate of each step: a phase warms up and falls by itself."""
    length = phase.end - phase.start
    warmup = config.warmup_steps if config.exact_warmup else min(config.warmup_steps, length // 10)
    schedule = SCHEDULES[config.schedule]
    if config.drop_epochs or config.drop_steps:
        steps = config.drop_steps or [round(epoch * per_epoch) for epoch in config.drop_epochs]
        drops = [step - phase.start for step in steps]
        schedule = partial(warmup_constant, drops=drops)

    def rate(step: int) -> float:
        return schedule(
            step - phase.start, lr=config.lr, warmup_steps=warmup, total_steps=length, warmup_start=config.warmup_start
        )

    return rate
