"""Names of tensors in published checkpoints -> those of a stock open_clip model."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from open_clip.model import convert_to_custom_text_state_dict
from torch import Tensor, nn

from clipself.backbones.siglip_names import from_siglip, is_siglip
from clipself.backbones.tips_names import from_tips, is_tips

StateDict = dict[str, Tensor]

OPENAI_EXTRAS: Final = ("input_resolution", "context_length", "vocab_size")
"""Integers beside the weights in OpenAI's state dicts; their presence tells that the activation is QuickGELU."""

NO_WEIGHTS: Final = re.compile(r"(^|\.)(position_ids|attn_mask)$")
"""Numbers of positions and causal masks, which some libraries keep beside the weights; models compute them."""

EVA_BUFFER: Final = re.compile(r"^visual\.(blocks\.\d+\.attn\.)?rope\.(freqs_(cos|sin)(_\d+)?|flag)$")
"""Rotary tables of the EVA files: computed from the grid, never read from the file."""

EVA_KEYS: Final[Mapping[str, str]] = {
    "attn.inner_attn_ln.": "attn.norm.",
    "attn.q_bias": "attn.q_proj.bias",
    "attn.v_bias": "attn.v_proj.bias",
    "mlp.w1.": "mlp.fc1_g.",
    "mlp.w2.": "mlp.fc1_x.",
    "mlp.ffn_ln.": "mlp.norm.",
    "mlp.w3.": "mlp.fc2.",
}
"""EVA-CLIP's name of a part of a block -> timm's."""

TRANSFORMERS_BLOCK: Final[Mapping[str, str]] = {
    "layer_norm1.": "ln_1.",
    "layer_norm2.": "ln_2.",
    "mlp.fc1.": "mlp.c_fc.",
    "mlp.fc2.": "mlp.c_proj.",
    "self_attn.out_proj.": "attn.out_proj.",
}
"""transformers' name of a part of a block -> OpenAI's; its three projections are joined."""

TRANSFORMERS: Final[Mapping[str, str]] = {
    "text_model.embeddings.token_embedding.": "token_embedding.",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.encoder.layers.": "transformer.resblocks.",
    "text_model.final_layer_norm.": "ln_final.",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.": "visual.conv1.",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.encoder.layers.": "visual.transformer.resblocks.",
    "vision_model.pre_layrnorm.": "visual.ln_pre.",
    "vision_model.post_layernorm.": "visual.ln_post.",
    "visual_projection.weight": "visual.proj",
}
"""Beginning of a name in transformers' CLIPModel -> OpenAI's; the two projections are stored turned."""


def is_openai(state: Mapping[str, Tensor]) -> bool:
    """Whether the integers of an OpenAI release are there, whose activation is QuickGELU."""
    return any(name in state for name in OPENAI_EXTRAS)


def is_official_eva(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of the EVA-CLIP and CLIPSelf releases, of any size."""
    return "visual.patch_embed.proj.weight" in state and "visual.blocks.0.attn.proj.weight" in state


def from_official_eva(state: Mapping[str, Tensor]) -> StateDict:
    """Renames an EVA-CLIP state dict to the stock open_clip tower; rotary tables are left out."""
    renamed: StateDict = {}
    for name, tensor in state.items():
        if EVA_BUFFER.match(name):
            continue
        if name.startswith("visual."):
            fused = f"{name.rpartition('.')[0]}.qkv.weight" in state  # EVA01 and the largest EVA02 keep timm's names
            name = "visual.trunk." + name.removeprefix("visual.")
            for theirs, ours in ({} if fused else EVA_KEYS).items():
                name = name.replace(f".{theirs}", f".{ours}")
        renamed[name] = tensor
    return renamed


def to_official_eva(names: Collection[str]) -> dict[str, str]:
    """Our name -> the name in an EVA-CLIP release, for reports that speak the published names."""
    official = {}
    for name in names:
        theirs = name.replace("visual.trunk.", "visual.")
        if name.startswith("visual.trunk."):
            for published, ours in EVA_KEYS.items():
                theirs = theirs.replace(f".{ours}", f".{published}")
        official[name] = theirs
    return official


def _match_text_layout(state: Mapping[str, Tensor], model: nn.Module) -> StateDict:
    """open_clip keeps the text tower either at the top (OpenAI) or under `text.`; both hold the same tensors."""
    holds_text_module = any(name.startswith("text.") for name in state)
    if hasattr(model, "text") and not holds_text_module:
        return dict(convert_to_custom_text_state_dict(dict(state)))
    if not hasattr(model, "text") and holds_text_module:
        return {name.removeprefix("text."): tensor for name, tensor in state.items()}
    return dict(state)


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of transformers' CLIPModel or its image side."""
    return "vision_model.embeddings.class_embedding" in state


def from_transformers(state: Mapping[str, Tensor]) -> StateDict:
    """Renames a CLIPModel to OpenAI's names and joins queries, keys and values; position numbers are left out."""
    renamed: StateDict = {}
    for name, tensor in state.items():
        if name.endswith("embeddings.position_ids"):
            continue
        ours = next(
            (name.replace(theirs, our, 1) for theirs, our in TRANSFORMERS.items() if name.startswith(theirs)), name
        )
        for theirs, our in TRANSFORMERS_BLOCK.items():
            ours = ours.replace(f".{theirs}", f".{our}")
        renamed[ours] = tensor.mT.contiguous() if name.endswith("_projection.weight") else tensor
    for name in [name for name in renamed if ".self_attn.q_proj." in name]:
        parts = [name.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
        if all(part in renamed for part in parts):
            joined = name.replace("self_attn.q_proj.weight", "attn.in_proj_weight")
            joined = joined.replace("self_attn.q_proj.bias", "attn.in_proj_bias")
            renamed[joined] = torch.cat([renamed.pop(part) for part in parts])
    return renamed


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One way of naming the tensors.

    Attributes:
        recognise: Whether a table of tensors is of it.
        convert: To open_clip's or OpenAI's names.
        advice: What to say where it does not fit.
    """

    recognise: Callable[[Mapping[str, Tensor]], bool]
    convert: Callable[[Mapping[str, Tensor]], StateDict]
    advice: str


LAYOUTS: Final[Mapping[str, Layout]] = {
    "official EVA-CLIP": Layout(
        recognise=is_official_eva,
        convert=from_official_eva,
        advice="the file has the names of an EVA-CLIP release: choose an EVA02-CLIP model of its size",
    ),
    "TIPSv2": Layout(
        recognise=is_tips,
        convert=from_tips,
        advice="the file is a TIPSv2's; pass its whole folder, with config.json, as the model",
    ),
    "transformers' SigLIP": Layout(
        recognise=is_siglip,
        convert=from_siglip,
        advice="the file has the layout of transformers' SiglipModel, which was converted; choose the SigLIP of its "
        "size, or pass its whole folder, with config.json, as the model",
    ),
    "transformers' CLIPModel": Layout(
        recognise=is_transformers,
        convert=from_transformers,
        advice="the file has the layout of transformers' CLIPModel, which was converted; choose the model of its size, "
        "or pass its whole folder, with config.json, as the model",
    ),
}
"""Layout -> how it is told and converted. open_clip's and OpenAI's own names need no conversion."""

ANCHORS: Final = re.compile(
    r"^(?P<before>(?:.*?\.)?)(?P<anchor>(visual\.(conv1\.weight|patch_embed\.proj\.weight|trunk\.|stem\.|class_embedding))"
    r"|vision_model\.embeddings\.)"
)
"""What every CLIP's image tower has; what stands before it was put there by whoever wrapped the model."""

BARE_TOWERS: Final[Mapping[str, str]] = {
    "class_embedding": "visual.",
    "attnpool.positional_embedding": "visual.",
    "blocks.0.attn.inner_attn_ln.weight": "visual.",
    "blocks.0.attn.q_proj.weight": "visual.trunk.",
    "blocks.0.attn.qkv.weight": "visual.trunk.",
    "stages.0.blocks.0.mlp.fc1.weight": "visual.trunk.",
}
"""A name that only an image tower on its own has at the top -> where that tower belongs."""

OTHER_MODEL: Final = ("teacher", "ema", "momentum", "target", "frozen", "reference", "model_t.")
"""Words in a prefix that tell the second model of a trainer; the one that was trained is taken."""


def layout_of(state: Mapping[str, Tensor]) -> Layout | None:
    """The row of `LAYOUTS` that recognises a table of tensors."""
    return next((layout for layout in LAYOUTS.values() if layout.recognise(state)), None)


def without_wrappers(state: Mapping[str, Tensor]) -> tuple[StateDict, str]:
    """Cuts off what trainers put before a CLIP's names ("module.", "student.clip.", ...), and other models beside it.

    Returns:
        The tensors, and a sentence about what was left out, empty where nothing was.
    """
    prefixes = list(dict.fromkeys(found["before"] for name in state if (found := ANCHORS.match(name))))
    if not prefixes:
        top = next((where for name, where in BARE_TOWERS.items() if name in state), "")
        return {f"{top}{name}": tensor for name, tensor in state.items()}, ""
    if prefixes == [""]:
        return dict(state), ""
    chosen = next((one for one in prefixes if not any(word in one.lower() for word in OTHER_MODEL)), prefixes[0])
    others = tuple(one for one in prefixes if one != chosen and one)
    kept = {
        name.removeprefix(chosen): tensor
        for name, tensor in state.items()
        if name.startswith(chosen) and not name.startswith(others)
    } | {name: tensor for name, tensor in state.items() if not name.startswith((chosen, *others))}
    return kept, f"holds several models; {chosen!r} was taken, {list(others)} left" if others else ""


def to_model_names(state: Mapping[str, Tensor], model: nn.Module) -> StateDict:
    """Brings a published state dict to the names of a stock open_clip model.

    Raises:
        ValueError: It is a relative that cannot be read.
    """
    renamed = {name: tensor for name, tensor in state.items() if name not in OPENAI_EXTRAS}
    layout = layout_of(renamed)
    if layout is not None:
        renamed = layout.convert(renamed)
    renamed = _match_text_layout(renamed, model)
    own = model.state_dict()
    # A sigmoid loss trains a bias of all logits, which no embedding depends on.
    needless = [name for name in renamed.keys() - own.keys() if name == "logit_bias" or NO_WEIGHTS.search(name)]
    renamed = {name: tensor for name, tensor in renamed.items() if name not in needless}
    for name in ("logit_scale", "logit_bias"):
        if name in renamed and name in own and renamed[name].numel() == 1:
            renamed[name] = renamed[name].reshape(own[name].shape)
    return renamed
