"""What the settings of every detector share; free of heavy imports so that `--help` is quick."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from clipself.engine.config import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodSettings(Settings):
    """What makes a detector what it is: architecture, targets, scoring; saved beside its weights.

    A detector's own settings are a subclass that fixes `method`, the name of its row in `DETECTORS`, by
    `field(default=NAME, init=False)`, so that saved settings tell whose they are.
    """

    make: ClassVar[Callable[..., Any]]
    """`table.make_settings`: the table, which knows this class, says it."""
    method: str
    """Which detector (`clipself.detection.DETECTORS`); its recipe sets the constants that belong to it."""
    templates: str = "detection"
    """Sentences around the names: detection, imagenet, simple, or a text file with one sentence a line."""

    @property
    def spoken(self) -> Mapping[str, Any]:
        """How names become sentences: keywords of `make_vocabulary`."""
        return {"templates": self.templates}

    @property
    def wants_masks(self) -> bool:
        """Whether training needs the masks of the boxes."""
        return False

    @property
    def whole_batches(self) -> bool:
        """Whether images of a micro-batch learn from one another, beyond the statistics of batch norms."""
        return False

    @property
    def clip_part(self) -> Literal["image", "text", "all"]:
        """The part of the CLIP that the detector stands on: its digest is kept beside the weights."""
        return "image"

    @classmethod
    def from_table(cls, values: Mapping[str, Any]) -> "MethodSettings":
        """What `to_json` gave, or some settings of the detector that `method` names."""
        made: MethodSettings = cls.make(**values)
        return made

    def changed(self, changes: Mapping[str, Any]) -> "MethodSettings":
        """Some settings replaced; another `method` takes over what both detectors know."""
        known = self.from_table({"method": changes.get("method", self.method)}).to_json()
        return self.from_table({**{name: value for name, value in self.to_json().items() if name in known}, **changes})
