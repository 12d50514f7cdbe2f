"""Where a run stands: its training state, taken up again by a run of the same settings, or of a longer one."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from clipself.engine.average import MovingAverage
from clipself.engine.checkpoint import save_state
from clipself.engine.config import RunConfig, flat
from clipself.engine.cut import Cut
from clipself.engine.fields import defaults_of
from clipself.engine.folder import RunFolder
from clipself.engine.task import Task

log = logging.getLogger(__name__)

NOT_COMPARED: Final = ("batch_size", "accumulate", "processes")
"""What states of older versions say of their cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """Steps under one schedule: the whole run, or what a longer continuation adds.

    Attributes:
        start: Steps made ahead of it.
        end: Steps made at its end.
    """

    start: int
    end: int


class StateKeeper:
    """Writes the training state and takes it up again; only what learns, and what it carries along, is in it.

    Args:
        task: What is trained.
        config: The run's settings.
        folder: Where the state lies.
        learning: The parameters that learn.
        average: Of them.
        optimizer: Of the run.
        scaler: Of float16; switched off otherwise.
        identity: Facts beyond settings that a continuation must share.
        begun: The cut with which the run began.
    """

    def __init__(
        self, task: Task[Any], config: RunConfig, folder: RunFolder, learning: Sequence[nn.Parameter],
        average: MovingAverage, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler,
        identity: Mapping[str, Any], begun: Cut,
    ) -> None:  # fmt: skip
        self.begun = begun
        self.task, self.folder, self.learning, self.average = task, folder, learning, average
        self.optimizer, self.scaler = optimizer, scaler
        self.facts = {"settings": config.compared(), "identity": {name: str(fact) for name, fact in identity.items()}}
        self.added = flat(defaults_of(config))

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
                "cut": self.begun.to_json(),
                **self.facts,
                "learning": [parameter.detach().cpu() for parameter in self.learning],
                "average": self.average.state(),
                "kept": [tensor.detach().cpu().clone() for tensor in self.task.kept()],
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
            },
        )
        self.folder.forget_replaced()

    def take_up(self, state: Mapping[str, Any] | None, total: int) -> tuple[int, Phase]:
        """Brings back the state of an earlier run.

        Args:
            state: What it saved; None where it came to save nothing, or there was none.
            total: Steps that the run shall have in all.

        Returns:
            Steps already made, and the phase that they stand in.

        Raises:
            ValueError: The state belongs to a run with other settings, or is further than this one shall go.
        """
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
            for parameter, kept in zip(self.learning, state["learning"], strict=True):
                parameter.copy_(kept)
            for tensor, kept in zip(self.task.kept(), state["kept"], strict=True):
                tensor.copy_(kept)
        self.average.load(state.get("average", ()))
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        return step, phase

    def _compare(self, state: Mapping[str, Any]) -> None:
        differing = []
        for kind, facts in self.facts.items():
            held = {name: value for name, value in flat(state[kind]).items() if name not in NOT_COMPARED}
            then, now = {**self._defaults(kind, state[kind]), **held}, flat(facts)
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

    def _defaults(self, kind: str, held: Mapping[str, Any]) -> dict[str, Any]:
        """Settings that an older version did not know: it did what their defaults say."""
        if kind != "settings":
            return {}
        return {name: value for name, value in self.added.items() if name in self.facts[kind] and name not in held}


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, float) and math.isnan(one):
        return math.isnan(two)
    return bool(one == two)
