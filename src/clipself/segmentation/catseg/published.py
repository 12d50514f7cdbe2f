"""Checkpoints of the published CAT-Seg: their names to ours, sizes read from the tensors, strict loading."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from clipself.backbones.sizes import depth_of
from clipself.segmentation.catseg.model import CatSeg
from clipself.segmentation.catseg.settings import AggregatorSettings, CatSegSettings
from clipself.segmentation.published_clip import clip_of_tensors, load_all

AGGREGATOR: Final = "sem_seg_head.predictor.transformer."
CLIP: Final = "sem_seg_head.predictor.clip_model."
SPLIT: Final = tuple(f".attn.{part}_proj_weight" for part in "qkv")
GRID: Final = 24
"""Side of the patch grid that the release is fixed to."""

StateDict = dict[str, Tensor]


def fuse_attention(state: Mapping[str, Tensor]) -> StateDict:
    """The release's separate query, key and value matrices -> OpenAI's fused one."""
    fused = {name: tensor for name, tensor in state.items() if not name.endswith(SPLIT)}
    for name in state:
        if name.endswith(SPLIT[0]):
            stem = name.removesuffix(SPLIT[0])
            fused[f"{stem}.attn.in_proj_weight"] = torch.cat([state[stem + part] for part in SPLIT])
    return fused


def read_catseg(state: Mapping[str, Tensor], *, source: str, heads: int | None = None) -> CatSeg:
    """Builds the model of a CAT-Seg checkpoint of the second release, sizes read from its tensors, and loads it.

    Args:
        state: Tensors by the published names; masks of shifted windows are computed, never read.
        source: Where they come from, for messages.
        heads: Attention heads of CLIP's image tower where they are not of width 64.

    Raises:
        ValueError: Tensors are missing, left over or of another shape.
    """
    rest = {name: tensor for name, tensor in state.items() if not name.endswith(".attn_mask")}
    clip_state = fuse_attention({n.removeprefix(CLIP): t for n, t in rest.items() if n.startswith(CLIP)})
    aggregator = {n.removeprefix(AGGREGATOR): t for n, t in rest.items() if n.startswith(AGGREGATOR)}
    outer = {n: t for n, t in rest.items() if not n.startswith((CLIP, AGGREGATOR))}
    clip = clip_of_tensors(clip_state, name="CAT-Seg's CLIP", source=source, heads=heads)
    depth = len(clip.trunk.stages)
    settings = CatSegSettings(
        image_size=GRID * clip.patch_size,
        taps=(depth // 3 - 1, 2 * depth // 3 - 1),
        aggregator=_sizes_of(aggregator, source),
    )
    model = CatSeg(clip, settings)
    load_all(model.aggregator, aggregator, source=source)
    for name in ("upsample1", "upsample2"):
        part = {n.removeprefix(f"{name}."): t for n, t in outer.items() if n.startswith(f"{name}.")}
        load_all(getattr(model, name), part, source=source)
    left_over = [name for name in outer if not name.startswith(("upsample1.", "upsample2."))]
    if left_over:
        raise ValueError(f"{source} holds {len(left_over)} tensors that the model has no place for: {left_over[:4]}")
    return model.eval()


def _sizes_of(state: Mapping[str, Tensor], source: str) -> AggregatorSettings:
    needed = ("conv1.weight", "guidance_projection.0.weight", "decoder1.up.weight", "decoder2.up.weight")
    missing = [name for name in needed if name not in state]
    if missing:
        raise ValueError(f"{source} lacks {AGGREGATOR}{missing[0]}; it is no CAT-Seg checkpoint")
    hidden, prompts = state["conv1.weight"].shape[:2]
    guided, guidance = state["guidance_projection.0.weight"].shape[:2]
    projected = state["text_guidance_projection.0.weight"].shape[0]
    decoders = [state[f"decoder_guidance_projection.{level}.0.weight"].shape for level in (0, 1)]
    padded = "layers.0.attention.padding_tokens" in state
    return AggregatorSettings(
        text_channels=state["text_guidance_projection.0.weight"].shape[1],
        guidance_channels=guidance,
        decoder_guidance_channels=(decoders[0][1], decoders[1][1]),
        prompts=prompts,
        hidden=hidden,
        projected=projected,
        guidance_projected=None if guided == projected else guided,
        decoder_channels=(
            state["decoder1.conv.double_conv.0.weight"].shape[0],
            state["decoder2.conv.double_conv.0.weight"].shape[0],
        ),
        decoder_projected=(decoders[0][0], decoders[1][0]),
        layers=depth_of(state, "layers."),
        pad_classes=AggregatorSettings().pad_classes if padded else 0,
    )


def published_names(model: CatSeg) -> dict[str, str]:
    """Our parameter name -> the name in the second release."""
    parts = {
        f"parametrizations.in_proj_weight.original{place}": f"{part}_proj_weight" for place, part in enumerate("qkv")
    }
    named = {}
    for name, _ in model.named_parameters():
        theirs = name.replace("clip.clip.", CLIP, 1) if name.startswith("clip.clip.") else name
        theirs = theirs.replace("aggregator.", AGGREGATOR, 1) if theirs.startswith("aggregator.") else theirs
        for ours, published in parts.items():
            theirs = theirs.replace(ours, published)
        named[name] = theirs
    return named
