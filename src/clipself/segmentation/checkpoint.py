"""A trained segmenter to a folder and back, without the CLIP it was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.head_folder import HeadKind, Heads, load_heads, save_heads
from clipself.segmentation.segmenter import SegmenterModel
from clipself.segmentation.segmenters import SEGMENTERS

SEGMENTER: Final = HeadKind(
    name="segmenter",
    stem="segmenter",
    written_by="`segment train`",
    clip_part="all",
    old_keys={"clip_hash": "clip_digest"},
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedAt:
    """What the card keeps of a run beside the settings of its model.

    Attributes:
        crop: Side of the training crops, in pixels.
    """

    crop: int

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= 2**14:
            raise ValueError(f"crop={self.crop} is no side of a picture in pixels")


def own_state(model: SegmenterModel) -> dict[str, Tensor]:
    """What a folder keeps: all weights but those of CLIP that do not learn."""
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        name: tensor for name, tensor in model.state_dict().items() if name in learning or not name.startswith("clip.")
    }


def save_segmenter(
    model: SegmenterModel,
    folder: str | Path,
    *,
    clip: Mapping[str, Any],
    digest: str,
    crop: int,
    names: Sequence[str],
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `segmenter.safetensors` and `segmenter.json`.

    Args:
        model: The model; its settings are kept too.
        folder: Made when missing.
        clip: `model`, `pretrained` and `text_from` as `load_clip` was given them.
        digest: `weights_hash()` of that CLIP as it was when the training began.
        crop: Side of the training crops, in pixels.
        names: Classes of the training.
        card: More to keep.

    Raises:
        ValueError: A weight is not finite.
        OSError: The disk is full or the folder cannot be written.
    """
    return save_heads(
        folder, SEGMENTER, own_state(model), **clip, digest=digest, settings=model.settings, names=names,
        card={"crop": crop, **(card or {})},
    )  # fmt: skip


def load_segmenter(
    folder: str | Path, *, clip: DenseCLIP | None = None, device: Any = "cpu"
) -> tuple[SegmenterModel, dict[str, Any]]:
    """Builds a saved model with its CLIP, in evaluation mode.

    Args:
        folder: Written by `save_segmenter`.
        clip: The CLIP where it is loaded already; else the one named in the folder is loaded.
        device: Where all of it goes.

    Returns:
        The model, and what the folder says about it.

    Raises:
        FileNotFoundError: There is no model in the folder, or its CLIP has moved.
        ValueError: The weights or the CLIP are not those it was trained with.
    """
    heads = load_heads(folder, SEGMENTER, clip=clip)
    heads.names()  # which `segment predict` falls back on
    crop = heads.facts(TrainedAt).crop
    row = SEGMENTERS[_method_of(heads)]
    settings = heads.settings(row.settings)
    model: SegmenterModel = heads.build(lambda: row.build(heads.clip, settings, crop=crop))
    heads.fill(model, own=own_state(model))
    return model.to(device).eval(), heads.card


def _method_of(heads: Heads) -> str:
    """The name of its row; what earlier versions kept beside the settings goes into them."""
    settings = heads.card.get("settings")
    if not isinstance(settings, dict):
        raise ValueError(f"{heads.card_path} has no table of settings; was it edited?")
    method = str(settings.get("method", heads.card.get("method")))
    if "method" not in settings and method in SEGMENTERS:
        known = {field.name for field in fields(SEGMENTERS[method].settings)}
        settings |= {key: heads.card[key] for key in ("train_clip",) if key in heads.card and key in known}
    if method not in SEGMENTERS:
        raise ValueError(f"{heads.card_path}: method is {method[:40]!r}, expected one of {sorted(SEGMENTERS)}")
    return method
