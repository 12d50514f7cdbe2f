"""A checkpoint of transformers' OWL-ViT or OWLv2 as a detector of ours."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from clipself.backbones.loading import clip_from_config
from clipself.backbones.text import make_vocabulary
from clipself.detection.checkpoint import load_learned
from clipself.detection.detectors.owl.model import Owl
from clipself.detection.detectors.owl.published import CLIP, from_owlvit, whole_clip
from clipself.detection.detectors.table import build_detector
from clipself.detection.released import Release
from clipself.files import read_json

HEAD_WIDTH = 64
"""Width of an attention head in all released models; a config.json beside the weights may say otherwise."""


def read_published(release: Release) -> Owl:
    """Builds a detector from the checkpoint of transformers, every tensor strictly; sizes follow from the tensors.

    Both towers are in the file and learn on; heads and activation are told by a config.json beside it, else they are
    those of the releases.

    Returns:
        The detector in evaluation mode.

    Raises:
        ValueError: A tensor is missing, left over or of another shape.
    """
    beside, state = release.weights.with_name("config.json"), release.read_state()
    config, named = read_json(beside) if beside.is_file() else {}, from_owlvit(state)
    clip = clip_from_config("OWL-ViT", clip_config(named, config), whole_clip(state), source=release.source)
    rows = round((len(named[f"{CLIP}visual.positional_embedding"]) - 1) ** 0.5)
    fitted = replace(
        release.settings, towers="both", features="tokens", image_size=rows * clip.patch_size,
        text_tokens=len(named[f"{CLIP}positional_embedding"]), objectness="heads.objectness.dense0.weight" in named,
    )  # fmt: skip
    names, base = release.classes.names, release.classes.base
    detector = build_detector(clip, fitted, make_vocabulary(clip, names, base=base, templates="simple", cache=False))
    assert isinstance(detector, Owl)
    load_learned(detector, named, source=release.source)
    return detector.eval()


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
