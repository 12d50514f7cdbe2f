"""What the settings of every method share; free of heavy imports so that `--help` is quick."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from clipself.engine.config import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodSettings(Settings):
    """How the student learns from the teacher; saved in the card of what it becomes.

    A method's own settings are a subclass that fixes `method`, the name of its row in `METHODS`, by
    `field(default=NAME, init=False)`, so that saved settings tell whose they are. A name may stand for the method with
    its defaults: `distill(method="declip")`, `--method declip`.
    """

    make: ClassVar[Callable[..., Any]]
    """`methods.make_settings`: the table, which knows this class, says it."""
    method: str
    """Which method (`clipself.distillation.METHODS`)."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_table(cls, values: Mapping[str, Any]) -> "MethodSettings":
        """What `to_json` gave, or some settings of the method that `method` names."""
        made: MethodSettings = cls.make(**values)
        return made

    def changed(self, changes: Mapping[str, Any]) -> "MethodSettings":
        """Some settings replaced; another `method` begins with its own defaults."""
        if changes.get("method", self.method) != self.method:
            return self.from_table(changes)
        return self.from_table({**self.to_json(), **changes})


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSelfSettings(MethodSettings):
    """CLIPSelf (arXiv:2310.01403): crops teach regions, and nothing else does."""

    method: str = field(default="clipself", init=False)
