"""The mask generators that learn, by name; none knows of another. A new one is its heads, settings, and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from clipself.choices import later, pick
from clipself.engine.fields import build
from clipself.panoptic.settings import MaskGeneratorSettings, OdiseSettings, OwnMasksSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnedType:
    """One row of the table.

    Attributes:
        settings: Class of its settings.
        heads: (settings, in_channels=channels of the pyramid, text_dim=width of the joint space) -> new `MaskHeads`.
        start: (heads, clip): what new heads take from the CLIP ahead of a training; None for nothing.
    """

    settings: type[MaskGeneratorSettings]
    heads: Callable[..., Any]
    start: Callable[..., None] | None = None


_later: Final = partial(later, "clipself.panoptic.generators")


LEARNED: Final[Mapping[str, LearnedType]] = {
    "fcclip": LearnedType(settings=OwnMasksSettings, heads=_later("fcclip", "new_fcclip_heads")),
    "odise": LearnedType(
        settings=OdiseSettings, heads=_later("odise.heads", "new_odise_heads"),
        start=_later("odise.heads", "start_at_the_empty_text"),
    ),
}  # fmt: skip
"""`MaskGeneratorSettings.method` -> the generator."""


def make_settings(method: str = "fcclip", /, **values: Any) -> MaskGeneratorSettings:
    """Settings of a generator by its name; what `to_json` gave is read back.

    Args:
        method: Row of `LEARNED`.
        values: Settings that differ from its defaults.

    Raises:
        ValueError: There is no such generator or no such setting.
    """
    row = pick(LEARNED, values.pop("method", method), what="mask generator that learns")
    settings: MaskGeneratorSettings = build(row.settings, values, name="generator")
    return settings


MaskGeneratorSettings.make = make_settings
