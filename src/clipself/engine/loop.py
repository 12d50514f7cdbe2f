"""The training loop: steps of micro-batches, one loss over all processes, state that survives a kill."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from clipself.engine.average import MovingAverage
from clipself.engine.callbacks import Callback, Callbacks, Progress
from clipself.engine.config import RunConfig
from clipself.engine.distributed import World, delayed_sync
from clipself.engine.each_picture import EachPicture, take_apart
from clipself.engine.log import RunLog
from clipself.engine.optim import set_lr
from clipself.engine.precision import Precision
from clipself.engine.share import Share
from clipself.engine.step import Step, seed_of, sum_counts
from clipself.engine.stopping import Stopped, StopRequest
from clipself.engine.task import B, Task

LOWEST_SCALE: Final = 2.0**-10
"""Where float16's scaler has come down to this, the gradients are not finite whatever the scale."""


@dataclass(frozen=True, slots=True)
class Fetched(Generic[B]):
    """The micro-batches of a step.

    Attributes:
        micro: Of this process.
        begun: When they were asked for, in seconds of a clock.
        waited: How long that took.
    """

    micro: list[B]
    begun: float
    waited: float


@dataclass(kw_only=True)
class Loop(Generic[B]):
    """Runs a task; knows none by name.

    Attributes:
        task: Model and loss.
        config: The run's settings.
        accumulate: Micro-batches of a step.
        world: This process among its peers.
        stop: Whether somebody asks the run to stop.
        log: Where records go.
        learning: The parameters that learn, in the model's order.
        optimizer: Over the task's parameter groups.
        average: Of the parameters that learn.
        precision: Number format.
        total_steps: Optimizer steps of the whole run.
        rate: Learning rate of a 0-based step.
        save: Writes the training state after so many steps.
        state_path: Where it goes, for messages.
        callbacks: What the caller wants to be called.
    """

    task: Task[B]
    config: RunConfig
    accumulate: int
    world: World
    stop: StopRequest
    log: RunLog
    learning: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    average: MovingAverage
    precision: Precision
    total_steps: int
    rate: Callable[[int], float]
    save: Callable[[int], None]
    state_path: Path
    callbacks: Callbacks = field(default_factory=Callbacks)

    def run(self, batches: Iterable[B], *, start_step: int = 0) -> int:
        """Trains to the end of the schedule, or until a callback ends it.

        Args:
            batches: Endless micro-batches, beginning after those that an earlier run has seen.
            start_step: Steps that an earlier run has made.

        Returns:
            Steps made in all.

        Raises:
            FloatingPointError: Loss, gradients or weights are not finite; the last saved state is kept.
            Stopped: Somebody asked to stop; the state is saved first.
        """
        self.task.model.train()
        wrapped = self.world.wrap(self.task.model)
        model: nn.Module = torch.compile(wrapped) if self.config.compile else wrapped  # type: ignore[assignment]
        stream, self._saved = iter(batches), start_step
        shown = {"total": self.total_steps, "initial": start_step, "unit": "step"}
        with tqdm(**shown, disable=not self.world.is_main) as bar, self.stop.later():
            if self._lacks_evaluation(start_step) and self._evaluate(start_step):
                return start_step
            for step in range(start_step, self.total_steps):
                fetched = self._fetch(stream)
                # All stop ahead of the same step, or those left would wait for ever.
                code = self.stop.agreed(self.world)
                if code or fetched is None:
                    self._leave(step, code)
                self._step(model, fetched, step, bar)
                done = step + 1
                ending = self._ending()
                due = self.config.save_every and done % self.config.save_every == 0
                if due or ending or done == self.total_steps:
                    self._save(done)
                every = self.config.evaluate_every
                ended = bool(every) and done % every == 0 and self._evaluate(done)
                if ended and not ending:
                    self._save(done)
                if ended or ending:
                    return done
        return self.total_steps

    def _ending(self) -> bool:
        """Whether a callback asks for the end; every process hears of it."""
        return self.world.any(self.callbacks.end.asked)

    def _fetch(self, stream: Iterator[B]) -> Fetched[B] | None:
        """The next micro-batches; None where somebody asked to stop meanwhile."""
        begun = time.perf_counter()
        try:
            with self.stop.at_once():
                micro = [next(stream) for _ in range(self.accumulate)]
        except Stopped:
            return None
        return Fetched(micro, begun, time.perf_counter() - begun)

    def _save(self, done: int) -> None:
        self._check_weights(done)
        self.save(done)
        self._saved = done

    def _leave(self, done: int, code: int) -> NoReturn:
        """Ends the run between two steps; every process does."""
        if done > self._saved:
            self._save(done)
        self.world.wait()  # launchers kill the others as soon as one of them ends
        if not done:
            raise self.stop.stopped("stopped ahead of the first step; there is no state yet", code=code)
        said = f"stopped after {done} steps; the state is kept, go on with it by resume (--resume)"
        raise self.stop.stopped(said, code=code)

    def _step(self, model: nn.Module, fetched: Fetched[B], number: int, bar: Any) -> None:
        micro = fetched.micro
        totals = sum_counts(map(self.task.counts, micro), self.world)
        step = Step(number=number, seed=self.config.seed, totals=totals, world=self.world)
        terms: dict[str, Tensor] = {}
        each, parts = self._one_by_one(micro)
        for place, batch in enumerate(parts):
            # Layers that draw by themselves, such as dropout, meet the same chance in a run that is resumed.
            torch.manual_seed(seed_of(self.config.seed, number, "layers", place, self.world.rank))
            with delayed_sync(model, last=each is None and place == len(parts) - 1):
                with self.precision.autocast():
                    shares = self.task.losses(model, batch.to(self.world.device), step)
                    loss = torch.stack(list(shares.values())).sum() if len(shares) > 1 else next(iter(shares.values()))
                # The wrapper averages over processes, where the loss is the sum of their shares.
                scaled: Any = self.precision.scaler.scale(loss * self.world.size)
                scaled.backward()
            if each is not None:
                each.take()
            for name, share in shares.items():
                terms[name] = terms[name] + share.detach() if name in terms else share.detach()
        if each is not None:
            each.give()
        numbers = self._numbers(terms)
        loss_here = sum(numbers.values())
        if not torch.isfinite(torch.tensor(loss_here)):
            self._refuse("loss", loss_here, number, micro)
        lr = self.rate(number)
        set_lr(self.optimizer, lr)
        norm = self._update(number, micro)
        images = self.world.size * sum(len(batch.names) for batch in micro)
        speed = images / (time.perf_counter() - fetched.begun)
        counts = {name: total for name, total in totals.items() if total.numel() == 1 and name not in numbers}
        counted = {name: _plain(float(total)) for name, total in counts.items()}
        record = {
            "loss": loss_here, "lr": lr, "grad_norm": norm, **numbers, **counted, "images_per_s": round(speed, 3),
            "data_s": round(fetched.waited, 4),
        }  # fmt: skip
        self.log.write("train", number + 1, **record)
        self._tell(self.callbacks.on_step, number + 1, record)
        listed = numbers if len(numbers) > 1 else {}
        shown = {name: f"{value:.4f}" for name, value in {"loss": loss_here, **listed}.items()}
        bar.set_postfix(**shown, images=f"{speed:.1f}/s", refresh=False)
        bar.update()

    def _one_by_one(self, micro: Sequence[B]) -> tuple[EachPicture | None, Sequence[Any]]:
        """The batches as they are; with `clip_each` each picture by itself, and what clips its gradient."""
        if self.config.clip_each is None:
            return None, micro
        parts = [one for batch in micro for one in take_apart(batch)]
        pictures = int(self.world.sum(torch.tensor(float(len(parts)), device=self.world.device)))
        each = EachPicture(
            self.learning, limit=self.config.clip_each, pictures=pictures, world=self.world,
            scale=self.precision.scaler.get_scale(),
        )  # fmt: skip
        return each, parts

    def _numbers(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """The terms summed over all processes."""
        joined = self.world.sum(torch.stack([term.float() for term in terms.values()]))
        return dict(zip(terms, joined.tolist(), strict=True))

    def _update(self, number: int, micro: Sequence[B]) -> float:
        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)
        limit = self.config.clip_norm if self.config.clip_norm is not None else float("inf")
        norm = float(nn.utils.clip_grad_norm_(self.learning, limit))
        # Float16's scaler skips such a step by itself and lowers the scale.
        if not torch.isfinite(torch.tensor(norm)) and not (scaler.is_enabled() and scaler.get_scale() > LOWEST_SCALE):
            self._refuse("norm of the gradients", norm, number, micro)
        if self.config.clip_value is not None:
            nn.utils.clip_grad_value_(self.learning, self.config.clip_value)
        scaler.step(self.optimizer)
        scaler.update()
        self.average.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _refuse(self, what: str, value: float, number: int, micro: Sequence[B]) -> None:
        names = [name for batch in micro for name in batch.names]
        raise FloatingPointError(
            f"the {what} is {value} at step {number + 1}, on {', '.join(names[:4])}; {self._kept()}: lower the "
            "learning rate or use precision='bf16' or 'fp32' in a new run, or look at these images"
        )

    def _check_weights(self, done: int) -> None:
        held = [*self.learning, *(tensor for tensor in self.task.kept() if tensor.is_floating_point())]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in held):
            raise FloatingPointError(
                f"the weights are not finite after {done} steps and are not saved; {self._kept()}: lower the learning "
                "rate in a new run"
            )

    def _kept(self) -> str:
        return (
            f"the last saved state is kept in {self.state_path}" if self.state_path.exists() else "no state was saved"
        )

    def _lacks_evaluation(self, start_step: int) -> bool:
        """Whether an earlier run was stopped ahead of an evaluation that was due."""
        every = self.config.evaluate_every
        if not every or not start_step or start_step % every:
            return False
        return self.world.any(self.world.is_main and not self.log.has("evaluation", start_step))

    def _evaluate(self, step: int) -> bool:
        """Every process evaluates its share; whether a callback asks for the end.

        One that is asked to stop ends the evaluation for all; it is made on resume.
        """
        try:
            with self.average.in_place():
                scores = self.task.evaluate(Share(world=self.world, stop=self.stop))
        except Stopped as stopped:
            self._leave(step, stopped.code)
        self.task.model.train()
        self.log.write("evaluation", step, **scores)
        self._tell(self.callbacks.on_evaluate, step, scores)
        return self._ending()

    def _tell(self, called: Callback | None, step: int, values: Mapping[str, Any]) -> None:
        if called is None or not self.world.is_main:
            return
        called(
            Progress(
                step=step, total_steps=self.total_steps, values=values, model=self.task.model, out=self.config.out,
                end=self.callbacks.end,
            )
        )  # fmt: skip


def _plain(count: float) -> int | float:
    return int(count) if count.is_integer() else count


def learning_of(model: nn.Module, groups: Sequence[Mapping[str, Any]]) -> list[nn.Parameter]:
    """The parameters of an optimizer's groups, in the model's order."""
    chosen = {id(parameter) for group in groups for parameter in group["params"]}
    return [parameter for parameter in model.parameters() if id(parameter) in chosen]
