"""A trained detector on disk: a folder with its learned weights and what is needed to build the rest."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.head_folder import HeadKind, load_heads, save_heads
from clipself.backbones.strict import check_fit
from clipself.backbones.text import make_vocabulary
from clipself.choices import pick
from clipself.detection.detectors.table import DETECTORS, ONCE_SHARED, build_detector
from clipself.detection.protocol import DetectorModel, learned_state

DETECTOR: Final = HeadKind(
    name="detector",
    stem="detector",
    written_by="`detect train`",
    old_keys={"backbone_hash": "clip_digest"},
)
WEIGHTS: Final = DETECTOR.weights


def save_detector(
    detector: DetectorModel,
    folder: str | Path,
    *,
    model: str,
    pretrained: str | None = None,
    text_from: str | None = None,
    digest: str | None = None,
    card: Mapping[str, Any],
) -> Path:
    """Writes `detector.safetensors` and `detector.json`.

    Args:
        detector: The detector.
        folder: Made when missing.
        model: What `load_clip` is given for the backbone.
        pretrained: And its tag or file.
        text_from: And what its text tower is taken from.
        digest: Of the backbone as it was ahead of the training; as it is now if not given.
        card: More to keep in the JSON.

    Raises:
        ValueError: A weight is not finite.
        OSError: The disk is full or the folder cannot be written.
    """
    names, settings = detector.vocabulary.names, detector.settings
    return save_heads(
        folder, replace(DETECTOR, clip_part=settings.clip_part), learned_state(detector, detector.clip), model=model,
        pretrained=pretrained, text_from=text_from, digest=digest or detector.clip.weights_hash(settings.clip_part),
        settings=settings, names=names, card={"base": list(detector.vocabulary.base), **card},
    )  # fmt: skip


def load_detector(folder: str | Path, *, clip: DenseCLIP | None = None, device: str = "cpu") -> DetectorModel:
    """Builds a saved detector with its backbone, in evaluation mode.

    Args:
        folder: Written by `save_detector`.
        clip: The backbone where it is loaded already; else the one named in the folder is loaded.
        device: Where all of it goes.

    Raises:
        FileNotFoundError: There is no detector in the folder, or its backbone has moved.
        ValueError: The weights or the backbone are not those it was trained with.
    """
    heads = load_heads(folder, DETECTOR, clip=clip, device=device)
    kind = heads.build(lambda: pick(DETECTORS, heads.card["settings"]["method"], what="detection method").settings)
    settings, names, base = heads.settings(kind, forget=ONCE_SHARED), heads.names(), heads.names("base")
    vocabulary = heads.build(lambda: make_vocabulary(heads.clip, names, base=base, **settings.spoken))
    detector = heads.build(lambda: build_detector(heads.clip, settings, vocabulary))
    module = as_module(detector)
    heads.fill(module, own=learned_state(detector, detector.clip))
    module.eval()
    return detector


def as_module(detector: DetectorModel) -> nn.Module:
    """A detector as the module that it is."""
    assert isinstance(detector, nn.Module)
    return detector


def load_learned(detector: DetectorModel, state: Mapping[str, Tensor], *, source: str) -> None:
    """Loads all learned weights or none.

    Raises:
        ValueError: Tensors are missing, left over, of another shape or not finite.
    """
    module = as_module(detector)
    own = learned_state(detector, detector.clip)
    check_fit(state, own, source=source, advice="use the settings that it was trained with")
    module.load_state_dict({**module.state_dict(), **state}, strict=True)
