"""What a caller of a training is told on the way, and how it ends one early."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn


class EarlyEnd:
    """Whether a callback has asked for the end of the run."""

    asked = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a training stands, for its callbacks.

    Attributes:
        step: Optimizer steps made, from 1.
        total_steps: Of the whole run.
        values: The record of `metrics.jsonl`: "loss", "lr", each term of the loss by name and more after a step; the
            scores after an evaluation.
        model: What learns, as it is in training: to be read, not to be changed.
        out: The run's folder.
    """

    step: int
    total_steps: int
    values: Mapping[str, Any]
    model: nn.Module
    out: Path
    end: EarlyEnd = field(default_factory=EarlyEnd, repr=False)

    def stop(self) -> None:
        """Ends the run here, in all its processes: state and model are saved and a result is returned, as at its end.

        A later `resume` makes the steps that are left.
        """
        self.end.asked = True


Callback = Callable[[Progress], object]
"""Called in the main process; what it returns is not looked at, and what it raises ends the run as any error does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Callbacks:
    """What is called after each step and each evaluation.

    Raises:
        ValueError: One of them cannot be called.
    """

    on_step: Callback | None = None
    on_evaluate: Callback | None = None
    end: EarlyEnd = field(default_factory=EarlyEnd)

    def __post_init__(self) -> None:
        for name, called in (("on_step", self.on_step), ("on_evaluate", self.on_evaluate)):
            if called is not None and not callable(called):
                raise ValueError(
                    f"{name}={called!r} cannot be called; pass a function of one argument, the run's Progress"
                )
