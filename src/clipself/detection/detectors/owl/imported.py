"""A checkpoint of transformers' OWL-ViT or OWLv2 as a detector folder of ours, its CLIP beside it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import save_clip
from clipself.backbones.loading import clip_from_config
from clipself.backbones.text import make_vocabulary
from clipself.backbones.weights import read_state_dict, weights_in
from clipself.data.detection import ClassSplit
from clipself.detection.checkpoint import load_learned, save_detector
from clipself.detection.detectors.owl.model import Owl
from clipself.detection.detectors.owl.published import CLIP, from_owlvit, whole_clip
from clipself.detection.detectors.owl.settings import OwlSettings
from clipself.detection.detectors.table import build_detector
from clipself.files import read_json

HEAD_WIDTH = 64
"""Width of an attention head in all released models; a config.json beside the weights may say otherwise."""


def read_owl(
    state: Mapping[str, Tensor],
    settings: OwlSettings,
    classes: ClassSplit,
    *,
    config: Mapping[str, Any] | None = None,
    source: str = "the checkpoint",
) -> tuple[Owl, DenseCLIP]:
    """Builds a detector from transformers' tensors, every one strictly; sizes follow from the tensors.

    Args:
        state: By transformers' names.
        settings: Of scoring and training; both towers learn on.
        classes: Names to look for.
        config: transformers' own, for heads and activation; those of the releases if not given.
        source: For messages.

    Returns:
        The detector in evaluation mode, and the CLIP that it stands on.

    Raises:
        ValueError: A tensor is missing, left over or of another shape.
    """
    named = from_owlvit(state)
    clip = clip_from_config("OWL-ViT", clip_config(named, config or {}), whole_clip(state), source=source)
    rows = round((len(named[f"{CLIP}visual.positional_embedding"]) - 1) ** 0.5)
    fitted = replace(
        settings, towers="both", features="tokens", image_size=rows * clip.patch_size,
        text_tokens=len(named[f"{CLIP}positional_embedding"]), objectness="heads.objectness.dense0.weight" in named,
    )  # fmt: skip
    vocabulary = make_vocabulary(clip, classes.names, base=classes.base, templates="simple", cache=False)
    detector = build_detector(clip, fitted, vocabulary)
    assert isinstance(detector, Owl)
    load_learned(detector, named, source=source)
    return detector.eval(), clip


def import_owl(
    weights: str | Path,
    out: str | Path,
    *,
    model: str,
    pretrained: str | None,
    settings: OwlSettings,
    classes: ClassSplit,
    text_from: str | None = None,
) -> Path:
    """Writes an OWL-ViT or OWLv2 of transformers as a folder that `Detector.from_checkpoint` reads.

    Args:
        weights: The folder of a transformers' checkpoint, or its file.
        out: Folder to write.
        model: Not needed: sizes follow from the tensors.
        pretrained: Not needed: both towers are in the file.
        settings: Those of the recipe.
        classes: Names to look for until others are given.
        text_from: Not needed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file does not fit.
    """
    del model, pretrained, text_from
    path = weights_in(weights)
    beside = path.with_name("config.json")
    config = read_json(beside) if beside.is_file() else None
    detector, clip = read_owl(read_state_dict(path), settings, classes, config=config, source=str(weights))
    backbone = save_clip(clip, Path(out) / "backbone", card={"from": str(weights)})
    return save_detector(
        detector, out, model=str(backbone), digest=clip.weights_hash("all"), card={"from": str(weights)}
    )


def clip_config(named: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """open_clip's configuration of the CLIP beneath, by its tensors.

    Args:
        named: By the detector's names.
        config: transformers', or empty.
    """
    vision, text = config.get("vision_config") or {}, config.get("text_config") or {}
    kernel, table = named[f"{CLIP}visual.conv1.weight"], named[f"{CLIP}visual.positional_embedding"]
    words, context = named[f"{CLIP}token_embedding.weight"], named[f"{CLIP}positional_embedding"]
    width, patch, rows = kernel.shape[0], kernel.shape[-1], round((len(table) - 1) ** 0.5)
    return {
        "embed_dim": named[f"{CLIP}text_projection"].shape[1],
        "quick_gelu": vision.get("hidden_act", "quick_gelu") == "quick_gelu",
        "vision_cfg": {
            "image_size": rows * patch, "patch_size": patch, "width": width,
            "layers": _depth(named, f"{CLIP}visual.transformer.resblocks."),
            "head_width": width // vision["num_attention_heads"] if "num_attention_heads" in vision else HEAD_WIDTH,
        },
        "text_cfg": {
            "context_length": len(context), "vocab_size": len(words), "width": words.shape[1],
            "heads": text.get("num_attention_heads", max(1, words.shape[1] // HEAD_WIDTH)),
            "layers": _depth(named, f"{CLIP}transformer.resblocks."),
        },
    }  # fmt: skip


def _depth(named: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in named if name.startswith(prefix)})
