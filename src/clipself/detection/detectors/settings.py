"""What the settings of every detector share; free of heavy imports so that `--help` is quick."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodSettings:
    """What makes a detector what it is: architecture, targets, scoring; saved beside its weights.

    A detector's own settings are a subclass that fixes `method`, the name of its row in `DETECTORS`, by
    `field(default=NAME, init=False)`, so that saved settings tell whose they are.
    """

    method: str
    """Which detector (`clipself.detection.DETECTORS`); its recipe sets the constants that belong to it."""
    templates: str = "detection"
    """Sentences around the names: detection, imagenet, simple, or a text file with one sentence a line."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
