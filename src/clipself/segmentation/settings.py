"""What the settings of every segmenter share; free of heavy imports so that `--help` is quick."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from clipself.engine.config import Settings

Mode = Literal["sliding", "whole"]
"""Windows and the whole averaged, as published, or one pass, for segmenters that know both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmenterSettings(Settings):
    """What makes a segmenter what it is: how it is built, what of it learns, by which loss; saved beside its weights.

    A segmenter's own settings are a subclass that fixes `method`, the name of its row in `SEGMENTERS`, by
    `field(default=NAME, init=False)`, so that saved settings tell whose they are. What depends on the CLIP may be
    None: the model completes it.
    """

    make: ClassVar[Callable[..., Any]]
    """`segmenters.make_settings`: the table, which knows this class, says it."""
    method: str
    """Which segmenter (`clipself.segmentation.SEGMENTERS`)."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_table(cls, values: Mapping[str, Any]) -> "SegmenterSettings":
        """What `to_json` gave, or some settings of the segmenter that `method` names."""
        made: SegmenterSettings = cls.make(**values)
        return made

    def changed(self, changes: Mapping[str, Any]) -> "SegmenterSettings":
        """Some settings replaced; another `method` begins with its own defaults."""
        if changes.get("method", self.method) != self.method:
            return self.from_table(changes)
        return self.from_table({**self.to_json(), **changes})
