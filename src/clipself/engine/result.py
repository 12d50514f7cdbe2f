"""What a training run left behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clipself.engine.log import read_metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """A finished run; what was saved is an attribute too, such as `result.student`.

    Attributes:
        out: Its folder.
        steps: Optimizer steps made in all.
        first_loss: Mean loss over the first tenth of the steps.
        last_loss: Mean loss over the last tenth.
        saved: What was trained, by name.
        advice: Lines for people: what to run next.
    """

    out: Path
    steps: int
    first_loss: float
    last_loss: float
    saved: Mapping[str, Path] = field(default_factory=dict)
    advice: Sequence[str] = ()

    def __getattr__(self, name: str) -> Path:
        if name.startswith("_") or name in type(self).__slots__ or name not in self.saved:
            raise AttributeError(f"this result has no {name!r}")
        return self.saved[name]

    def to_table(self) -> str:
        """A summary with what to run next."""
        width = max((len(name) for name in self.saved), default=0)
        lines = [f"{self.steps} steps, loss {self.first_loss:.4f} -> {self.last_loss:.4f}"]
        lines += [f"{name:<{width}}  {path}" for name, path in self.saved.items()]
        return "\n".join([*lines, *self.advice])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        saved = {name: str(path) for name, path in self.saved.items()}
        return {
            "out": str(self.out), "steps": self.steps, "first_loss": self.first_loss, "last_loss": self.last_loss,
            **saved,
        }  # fmt: skip

    def with_saved(self, saved: Mapping[str, Path]) -> "TrainResult":
        """The same with what was written."""
        return replace(self, saved=dict(saved))

    def with_advice(self, advice: Sequence[str]) -> "TrainResult":
        """The same with lines under it."""
        return replace(self, advice=tuple(advice))


def measure(out: Path, steps: int, *, term: str = "loss") -> TrainResult:
    """The result of a run whose metrics lie in a folder, by the whole loss or one term; NaN where there is none."""
    losses = [record[term] for record in read_metrics(out) if term in record]
    tenth = max(1, len(losses) // 10)
    first = sum(losses[:tenth]) / tenth if losses else float("nan")
    last = sum(losses[-tenth:]) / tenth if losses else float("nan")
    return TrainResult(out=out, steps=steps, first_loss=first, last_loss=last)
