"""Checkpoints of the published CAT-Seg and SAN: their names to ours, sizes read from the tensors, strict loading."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import clip_from_config
from clipself.segmentation.aggregator import AggregatorSettings
from clipself.segmentation.catseg import CatSeg, CatSegSettings
from clipself.segmentation.san import San, SanSettings

AGGREGATOR: Final = "sem_seg_head.predictor.transformer."
CLIP: Final = "sem_seg_head.predictor.clip_model."
SPLIT: Final = tuple(f".attn.{part}_proj_weight" for part in "qkv")
GRID: Final = 24
"""Side of the patch grid that the release is fixed to."""

StateDict = dict[str, Tensor]


def clip_of_tensors(state: Mapping[str, Tensor], *, name: str, source: str, heads: int | None = None) -> DenseCLIP:
    """An OpenAI-style CLIP whose sizes are read from its tensors; the text tower may be absent.

    Args:
        state: Tensors by OpenAI's names ("visual.conv1.weight", "token_embedding.weight").
        name: What the CLIP is called.
        source: Where they come from, for messages.
        heads: Attention heads of the image tower; as many as are of width 64 if not given, as in every release.

    Raises:
        ValueError: Tensors are missing or do not fit.
    """
    needed = ("visual.conv1.weight", "visual.positional_embedding", "visual.proj")
    missing = [key for key in needed if key not in state]
    if missing:
        raise ValueError(f"{source} lacks {missing[0]}; it is no CLIP vision transformer by OpenAI's names")
    width, _, patch, _ = state["visual.conv1.weight"].shape
    grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    vision: dict[str, Any] = {
        "image_size": grid * patch,
        "patch_size": patch,
        "width": width,
        "layers": _depth(state, "visual.transformer.resblocks."),
        "head_width": width // heads if heads else 64,
    }
    text: dict[str, Any] = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    if "token_embedding.weight" in state:
        vocab_size, text_width = state["token_embedding.weight"].shape
        text = {
            "context_length": len(state["positional_embedding"]),
            "vocab_size": vocab_size,
            "width": text_width,
            "heads": max(1, text_width // 64),
            "layers": _depth(state, "transformer.resblocks."),
        }
    model_cfg = {
        "embed_dim": state["visual.proj"].shape[1],
        "quick_gelu": True,
        "vision_cfg": vision,
        "text_cfg": text,
    }
    return clip_from_config(name, model_cfg, state, source=source)


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix))


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
    depth = clip.trunk.depth
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
    projected, guidance = state["guidance_projection.0.weight"].shape[:2]
    decoders = [state[f"decoder_guidance_projection.{level}.0.weight"].shape for level in (0, 1)]
    padded = "layers.0.attention.padding_tokens" in state
    return AggregatorSettings(
        text_channels=state["text_guidance_projection.0.weight"].shape[1],
        guidance_channels=guidance,
        decoder_guidance_channels=(decoders[0][1], decoders[1][1]),
        prompts=prompts,
        hidden=hidden,
        projected=projected,
        decoder_channels=(
            state["decoder1.conv.double_conv.0.weight"].shape[0],
            state["decoder2.conv.double_conv.0.weight"].shape[0],
        ),
        decoder_projected=(decoders[0][0], decoders[1][0]),
        layers=_depth(state, "layers."),
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


def load_all(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Loads every tensor or none.

    Raises:
        ValueError: Names or shapes differ; the message names the first few.
    """
    own = module.state_dict()
    missing, left_over = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    reshaped = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if missing or left_over or reshaped:
        shapes = [f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}" for name in sorted(reshaped)[:3]]
        raise ValueError(
            f"{source} does not fit {type(module).__name__}: missing {missing[:3]}, left over {left_over[:3]}, of "
            f"another shape {shapes}; choose the model that the file was made for"
        )
    module.load_state_dict(dict(state), strict=True)


def read_san(state: Mapping[str, Tensor], settings: SanSettings, *, source: str, heads: int | None = None) -> San:
    """Builds a SAN and loads a published checkpoint; CLIP's sizes are read from its tensors.

    Args:
        state: Tensors by the published names; the class weights of the loss are left out.
        settings: How it was built.
        source: Where they come from, for messages.
        heads: Attention heads of CLIP's image tower where they are not of width 64.

    Raises:
        ValueError: Tensors are missing, left over or of another shape.
    """
    clip_state: StateDict = {}
    side: StateDict = {}
    background: StateDict = {}
    for name, tensor in state.items():
        room, _, rest = name.partition(".")
        if room in ("clip_visual_extractor", "clip_rec_head"):
            clip_state[_visual_name(rest, first=settings.split if room == "clip_rec_head" else 0)] = tensor
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
