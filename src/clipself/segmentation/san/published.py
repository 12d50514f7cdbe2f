"""Checkpoints of the published SAN: their names to ours, strict loading."""

from collections.abc import Mapping

import torch
from torch import Tensor

from clipself.backbones.sizes import depth_of
from clipself.segmentation.published_clip import clip_of_tensors, load_all
from clipself.segmentation.san.model import San
from clipself.segmentation.san.settings import SanSettings


def read_san(
    state: Mapping[str, Tensor], settings: SanSettings | None = None, *, source: str, heads: int | None = None
) -> San:
    """Builds a SAN and loads a published checkpoint; CLIP's sizes are read from its tensors.

    Args:
        state: Tensors by the published names; the class weights of the loss are left out.
        settings: How it was built; as published if not given, with the factor of the cosines that the file holds.
        source: Where they come from, for messages.
        heads: Attention heads of CLIP's image tower where they are not of width 64.

    Raises:
        ValueError: Tensors are missing, left over or of another shape.
    """
    if settings is None:
        scale = state.get("ov_classifier.logit_scale")
        settings = SanSettings() if scale is None else SanSettings(logit_scale=float(scale.float().exp()))
    split = settings.split or depth_of(state, "clip_visual_extractor.resblocks.")
    clip_state: dict[str, Tensor] = {}
    side: dict[str, Tensor] = {}
    background: dict[str, Tensor] = {}
    for name, tensor in state.items():
        room, _, rest = name.partition(".")
        if room in ("clip_visual_extractor", "clip_rec_head"):
            clip_state[_visual_name(rest, first=split if room == "clip_rec_head" else 0)] = tensor
        elif room == "side_adapter_network":
            side[rest] = tensor
        elif name == "ov_classifier.bg_embed":
            background["bg_embed"] = tensor
        elif room == "ov_classifier":
            clip_state[rest] = tensor
        elif name != "criterion.empty_weight":
            raise ValueError(f"{source} holds {name}, which the model has no place for; it is no SAN checkpoint")
    model = San(clip_of_tensors(clip_state, name="SAN's CLIP", source=source, heads=heads), settings)
    load_all(model.side, side, source=source)
    if "bg_embed" not in background or background["bg_embed"].shape != model.bg_embed.shape:
        raise ValueError(f"{source} lacks ov_classifier.bg_embed of shape {tuple(model.bg_embed.shape)}")
    with torch.no_grad():
        model.bg_embed.copy_(background["bg_embed"])
    return model.eval()


def _visual_name(rest: str, *, first: int) -> str:
    """A part of SAN's cut tower -> OpenAI's name; the recognising half counts its blocks from 0 again."""
    if not rest.startswith("resblocks."):
        return f"visual.{rest}"
    _, block, inner = rest.split(".", 2)
    return f"visual.transformer.resblocks.{int(block) + first}.{inner}"
