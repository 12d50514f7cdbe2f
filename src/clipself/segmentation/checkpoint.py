"""A trained segmenter to a folder and back, without the CLIP it was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.head_folder import HeadKind, load_heads, save_heads
from clipself.segmentation.config import SegmentationTrainConfig
from clipself.segmentation.segmenters import Model, own_state, rebuild_model

SEGMENTER: Final = HeadKind(
    name="segmenter",
    stem="segmenter",
    written_by="`segment train`",
    clip_part="all",
    old_keys={"clip_hash": "clip_digest"},
)


def save_segmenter(
    model: Model, folder: str | Path, *, config: SegmentationTrainConfig, clip_hash: str, card: Mapping[str, Any]
) -> Path:
    """Writes `segmenter.safetensors` and `segmenter.json`.

    Args:
        model: The model.
        folder: Made when missing.
        config: Settings of its run.
        clip_hash: Digest of CLIP's weights as they were when the training began.
        card: More to keep: class names.

    Raises:
        ValueError: A weight is not finite.
        OSError: The disk is full or the folder cannot be written.
    """
    kept = {"method": config.method, "train_clip": config.train_clip, "crop": config.crop}
    return save_heads(
        folder, SEGMENTER, own_state(model), model=config.model, pretrained=config.pretrained, digest=clip_hash,
        settings=model.settings, card={**kept, **card},
    )  # fmt: skip


def load_segmenter(folder: str | Path, *, clip: DenseCLIP | None = None, device: Any = "cpu") -> tuple[Model, Any]:
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
    return rebuild_model(heads).to(device).eval(), heads.card
