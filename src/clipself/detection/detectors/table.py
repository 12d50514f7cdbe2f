"""The detectors by name; none knows of another. A new one is a file or folder beside this one, and a line here."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from clipself.choices import later, pick
from clipself.detection.detectors.baron.settings import BaronSettings
from clipself.detection.detectors.cora.settings import CoraSettings
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.detectors.fvit import FViTSettings
from clipself.detection.detectors.fvlm import FvlmSettings
from clipself.detection.detectors.ovdetr.settings import OvDetrSettings
from clipself.detection.detectors.owl.settings import OwlSettings
from clipself.detection.detectors.promptovd.settings import PromptOvdSettings
from clipself.detection.detectors.rovit.settings import RoVitSettings
from clipself.detection.detectors.settings import MethodSettings
from clipself.detection.detectors.vild.settings import ViLDSettings

if TYPE_CHECKING:
    from clipself.backbones.dense_clip import DenseCLIP
    from clipself.backbones.text import EmbeddedVocabulary
    from clipself.detection.protocol import DetectorModel


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorType:
    """One row of the table.

    Attributes:
        settings: Class of its settings.
        build: (clip, settings, vocabulary) -> the detector with fresh heads.
        published: `Release` -> the detector of a released checkpoint; None where nothing was released.
        holds_clip: Whether released checkpoints hold the CLIP as well.
    """

    settings: type[MethodSettings]
    build: Callable[..., Any]
    published: Callable[..., Any] | None = None
    holds_clip: bool = False


_later: Final = partial(later, "clipself.detection.detectors")


DETECTORS: Final[dict[str, DetectorType]] = {
    "fvit": DetectorType(
        settings=FViTSettings,
        build=_later("two_stage.model", "TwoStage"),
        published=_later("two_stage.published", "read_published"),
        holds_clip=True,
    ),
    "fvlm": DetectorType(settings=FvlmSettings, build=_later("two_stage.model", "TwoStage")),
    "vild": DetectorType(settings=ViLDSettings, build=_later("vild.model", "ViLD")),
    "baron": DetectorType(settings=BaronSettings, build=_later("baron.model", "BaronKD")),
    "cora": DetectorType(
        settings=CoraSettings,
        build=_later("cora.model", "Cora"),
        published=_later("cora.published", "read_published"),
        holds_clip=True,
    ),
    "owl": DetectorType(
        settings=OwlSettings,
        build=_later("owl.model", "Owl"),
        published=_later("owl.imported", "read_published"),
        holds_clip=True,
    ),
    "rovit": DetectorType(
        settings=RoVitSettings,
        build=_later("rovit.model", "RoVit"),
        published=_later("rovit.published", "read_published"),
    ),
    "ovdetr": DetectorType(
        settings=OvDetrSettings,
        build=_later("ovdetr.model", "OvDetrDetector"),
        published=_later("ovdetr.published", "read_published"),
    ),
    "promptovd": DetectorType(settings=PromptOvdSettings, build=_later("promptovd.model", "PromptOvd")),
    "detic": DetectorType(
        settings=DeticSettings,
        build=_later("detic.heads", "build_detic"),
        published=_later("detic.imported", "read_published"),
    ),
}
"""`MethodSettings.method` -> the detector."""

ONCE_SHARED: Final = frozenset({"extra_weight", "distill_regions", "words"})
"""Settings that older versions saved with every detector, whether it used them or not."""


def make_settings(method: str = "fvit", /, **values: Any) -> MethodSettings:
    """Settings of a detector by its name; what `MethodSettings.to_json` gave is read back.

    Args:
        method: Row of `DETECTORS`.
        values: Settings that differ from its defaults; lists are taken for tuples, as JSON has none.

    Raises:
        ValueError: There is no such detector or no such setting.
    """
    kind: Any = pick(DETECTORS, values.pop("method", method), what="detection method").settings
    known = {each.name: each for each in fields(kind) if each.init}
    for name in sorted(set(values) - set(known)):
        near = get_close_matches(name, known, n=1)
        if name not in ONCE_SHARED:
            hint = f"; did you mean {near[0]!r}?" if near else "; the file was written by another version"
            raise ValueError(f"unknown setting {name!r} of the detector {kind.__name__}{hint}")
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    settings: MethodSettings = kind(**{name: value for name, value in given.items() if name in known})
    return settings


MethodSettings.make = make_settings


def build_detector(
    clip: "DenseCLIP", settings: MethodSettings, vocabulary: "EmbeddedVocabulary", *, seed: int = 0
) -> "DetectorModel":
    """A detector with fresh heads on the device of its backbone.

    Args:
        clip: The backbone; frozen from now on.
        settings: Architecture and constants.
        vocabulary: Names of training.
        seed: Seed of the heads' weights.

    Raises:
        ValueError: The settings do not fit the backbone.
    """
    import torch

    kind = pick(DETECTORS, settings.method, what="detection method")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector: Any = kind.build(clip, settings, vocabulary)
    built: DetectorModel = detector.to(clip.device)
    return built
