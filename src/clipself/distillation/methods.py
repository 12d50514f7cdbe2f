"""The ways to distil, by name; none knows of another. A new one is a file or folder, and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from clipself.choices import later, pick
from clipself.distillation.declip.settings import DeclipSettings
from clipself.distillation.denserc.settings import DensercSettings
from clipself.distillation.regionclip.settings import RegionClipSettings
from clipself.distillation.settings import ClipSelfSettings, MethodSettings
from clipself.engine.fields import build

if TYPE_CHECKING:
    from clipself.backbones.dense_clip import DenseCLIP
    from clipself.distillation.clipself import ClipSelf


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodType:
    """One row of the table.

    Attributes:
        settings: Class of its settings.
        build: (original, settings=, and the other arguments of `ClipSelf`) -> the method: a `ClipSelf`, or what adds
            terms to it.
        source: What a card of its students says of it.
    """

    settings: type[MethodSettings]
    build: Callable[..., Any]
    source: str


_later: Final = partial(later, "clipself.distillation")


METHODS: Final[dict[str, MethodType]] = {
    "clipself": MethodType(
        settings=ClipSelfSettings, build=_later("clipself", "ClipSelf"), source="CLIPSelf (arXiv:2310.01403)"
    ),
    "declip": MethodType(
        settings=DeclipSettings, build=_later("declip.model", "DeClip"), source="DeCLIP (arXiv:2505.04410)"
    ),
    "denserc": MethodType(
        settings=DensercSettings, build=_later("denserc.model", "DenseRc"), source="DenseRC (CVPR 2026), in our reading"
    ),
    "regionclip": MethodType(
        settings=RegionClipSettings,
        build=_later("regionclip.model", "RegionClip"),
        source="RegionCLIP (arXiv:2112.09106), as CLIPSelf's baseline",
    ),
}
"""`MethodSettings.method` -> how the student learns."""


def make_settings(method: str = "clipself", /, **values: Any) -> MethodSettings:
    """Settings of a method by its name; what `MethodSettings.to_json` gave is read back.

    Args:
        method: Row of `METHODS`.
        values: Settings that differ from its defaults.

    Raises:
        ValueError: There is no such method or no such setting.
    """
    row = pick(METHODS, values.pop("method", method), what="distillation method")
    settings: MethodSettings = build(row.settings, values, name="method")
    return settings


MethodSettings.make = make_settings


def build_method(original: "DenseCLIP", settings: MethodSettings, **shared: Any) -> "ClipSelf":
    """The method of some settings.

    Args:
        original: The CLIP to refine; it becomes the teacher.
        settings: Of one of `METHODS`.
        shared: The other arguments of `ClipSelf`.

    Raises:
        ValueError: The settings do not fit the CLIP.
    """
    row = pick(METHODS, settings.method, what="distillation method")
    built: ClipSelf = row.build(original, settings=settings, **shared)
    return built


def list_methods() -> list[str]:
    """The methods, for the help of the command."""
    rows = "; ".join(f"{name}, {row.source}" for name, row in METHODS.items())
    return [f"Methods: {rows}. --method.SETTING changes what the chosen one has settings of."]
