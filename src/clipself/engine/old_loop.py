"""The training loop: steps of micro-batches, one loss over all processes, state that survives a kill."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from clipself.engine.checkpoint import save_state
from clipself.engine.distributed import World, delayed_sync
from clipself.engine.log import RunLog
from clipself.engine.optim import Schedule, set_lr, warmup_cosine
from clipself.engine.precision import Precision

Batch = TypeVar("Batch")
Seen = TypeVar("Seen", contravariant=True)


class Method(Protocol[Seen]):
    """What a method tells the loop about its loss."""

    def count(self, batch: Seen) -> int:
        """How many terms the loss of this batch sums."""

    def images(self, batch: Seen) -> int:
        """How many images it holds, for the speed shown."""

    def names(self, batch: Seen) -> Sequence[str]:
        """Where they came from, for messages."""

    def loss_sum(self, model: nn.Module, batch: Seen) -> Tensor:
        """The sum of the terms; `model` is the trained module, wrapped for many processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long and how.

    Attributes:
        total_steps: Optimizer steps of the whole run.
        lr: Peak learning rate.
        warmup_steps: Steps of the linear ramp.
        accumulate: Micro-batches of a step.
        clip_norm: Largest norm of all gradients; None leaves them.
        save_every: Steps between training states; 0 saves only at the end.
        evaluate_every: Steps between evaluations; 0 never evaluates.
    """

    total_steps: int
    lr: float
    warmup_steps: int
    accumulate: int = 1
    clip_norm: float | None = None
    save_every: int = 0
    evaluate_every: int = 0


class StopRequest:
    """Whether somebody has asked the run to stop."""

    asked = False


@contextmanager
def between_steps() -> Iterator[StopRequest]:
    """Turns Ctrl-C into a request that is met after the step at hand, so that no weights are half updated.

    A second Ctrl-C stops at once.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: object) -> None:
        if request.asked:
            raise KeyboardInterrupt
        request.asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(kw_only=True)
class Loop(Generic[Batch]):
    """Runs a method; knows none by name.

    Attributes:
        method: The loss.
        model: The trained module, bare.
        learning: Its parameters that learn.
        optimizer: Over those parameters.
        config: Length and schedule.
        precision: Number format.
        world: This process among its peers.
        log: Where records go.
        state_path: Where the training state goes.
        fingerprint: What must agree when the run is resumed.
        evaluate: Called every so often with the step.
        compile: Whether the model is compiled.
        schedule: Learning rate of each step.
        kept: What the model carries along without learning it, such as running means; saved and restored too.
        numbers: More of each step's numbers, for log and bar; None shows the cosine that a distance of 1 - cos is.
    """

    method: Method[Batch]
    model: nn.Module
    learning: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    config: LoopConfig
    precision: Precision
    world: World
    log: RunLog
    state_path: Path
    fingerprint: str
    evaluate: Callable[[int], Mapping[str, Any]] | None = None
    compile: bool = False
    schedule: Schedule = warmup_cosine
    kept: Sequence[Tensor] = field(default_factory=tuple)
    numbers: Callable[[], Mapping[str, float]] | None = None

    def run(self, batches: Iterable[Batch], *, start_step: int = 0) -> None:
        """Trains to the end of the schedule.

        Args:
            batches: Endless micro-batches, beginning after those that an earlier run has seen.
            start_step: Steps that an earlier run has made.

        Raises:
            FloatingPointError: The loss is not finite; the last saved state is kept.
            KeyboardInterrupt: Asked to stop; the state is saved first.
        """
        wrapped = self.world.wrap(self.model)
        model: nn.Module = torch.compile(wrapped) if self.compile else wrapped  # type: ignore[assignment]
        stream, steps = iter(batches), range(start_step, self.config.total_steps)
        shown = {"total": self.config.total_steps, "initial": start_step, "unit": "step"}
        with tqdm(**shown, disable=not self.world.is_main) as bar, between_steps() as stop:
            for step in steps:
                self._step(model, stream, step, bar)
                done = step + 1
                stopping = self.world.any(stop.asked)  # all stop after the same step, or those left would wait forever
                due = self.config.save_every and done % self.config.save_every == 0
                if due or stopping or done == self.config.total_steps:
                    self.save(done)
                if stopping:
                    raise KeyboardInterrupt(f"stopped after {done} steps; the state is kept, go on with resume")
                if self.evaluate and self.config.evaluate_every and done % self.config.evaluate_every == 0:
                    self._evaluate(done)

    def _step(self, model: nn.Module, stream: Iterator[Batch], step: int, bar: Any) -> None:
        begun = time.perf_counter()
        micro = [next(stream) for _ in range(self.config.accumulate)]
        waited = time.perf_counter() - begun
        counts = torch.tensor([float(sum(map(self.method.count, micro)))], device=self.world.device)
        total = self.world.sum(counts).item()
        summed = torch.zeros(1, device=self.world.device)
        for place, batch in enumerate(micro):
            last = place == len(micro) - 1
            with delayed_sync(model, last=last):
                with self.precision.autocast():
                    loss = self.method.loss_sum(model, batch)
                # The wrapper averages over processes; the sum over all of them is what the loss divides by.
                scaled: Any = self.precision.scaler.scale(loss * (self.world.size / total))
                scaled.backward()
            summed += loss.detach()
        mean_loss = self.world.sum(summed).item() / total
        if not torch.isfinite(torch.tensor(mean_loss)):
            self._refuse(step, mean_loss, micro)
        lr = self.schedule(
            step, lr=self.config.lr, warmup_steps=self.config.warmup_steps, total_steps=self.config.total_steps
        )
        set_lr(self.optimizer, lr)
        norm = self._update()
        images = self.world.size * sum(map(self.method.images, micro))
        speed = images / (time.perf_counter() - begun)
        self.log.write(
            "train", step + 1, loss=mean_loss, lr=lr, grad_norm=norm, regions=int(total), images_per_s=round(speed, 3),
            data_s=round(waited, 4), **(self.numbers() if self.numbers else {}),
        )  # fmt: skip
        parts = {"cosine": 1 - mean_loss} if self.numbers is None else self.numbers()
        shown = {name: f"{value:.4f}" for name, value in {"loss": mean_loss, **parts}.items()}
        bar.set_postfix(**shown, images=f"{speed:.1f}/s", refresh=False)
        bar.update()

    def _update(self) -> float:
        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)
        limit = self.config.clip_norm if self.config.clip_norm is not None else float("inf")
        norm = nn.utils.clip_grad_norm_(self.learning, limit)
        scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def _refuse(self, step: int, loss: float, micro: Sequence[Batch]) -> None:
        names = [name for batch in micro for name in self.method.names(batch)]
        raise FloatingPointError(
            f"the loss is {loss} at step {step + 1}, on {', '.join(names[:4])}; the last saved state is kept in "
            f"{self.state_path}: lower the learning rate, use precision='bf16' or 'fp32', or look at these images"
        )

    def _evaluate(self, step: int) -> None:
        if self.evaluate is not None and self.world.is_main:
            self.log.write("evaluation", step, **self.evaluate(step))
        self.world.wait()

    def save(self, step: int) -> None:
        """Writes the training state; only the learning weights are in it."""
        if not self.world.is_main:
            return
        save_state(
            self.state_path,
            {
                "step": step,
                "fingerprint": self.fingerprint,
                "learning": [parameter.detach().cpu() for parameter in self.learning],
                "kept": [tensor.detach().cpu().clone() for tensor in self.kept],
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.precision.scaler.state_dict(),
                "rng": torch.get_rng_state(),
            },
        )

    def restore(self, state: Mapping[str, Any]) -> int:
        """Takes up a training state.

        Returns:
            Steps already made.

        Raises:
            ValueError: The state belongs to a run with other settings.
        """
        if state["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"{self.state_path} belongs to a run with other settings; repeat the command of that run to resume it, "
                "or choose another folder"
            )
        with torch.no_grad():
            for parameter, kept in zip(self.learning, state["learning"], strict=True):
                parameter.copy_(kept)
            for tensor, kept in zip(self.kept, state.get("kept", ()), strict=True):
                tensor.copy_(kept)
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        return int(state["step"])
