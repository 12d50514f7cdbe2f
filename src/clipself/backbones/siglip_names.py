"""transformers' SiglipModel: its names of tensors in open_clip's, and which of open_clip's models it is."""

import re
from collections.abc import Mapping
from typing import Any, Final

import open_clip
import torch
from torch import Tensor

IMAGE: Final[Mapping[str, str]] = {
    r"embeddings\.patch_embedding\.": "patch_embed.proj.",
    r"embeddings\.position_embedding\.weight$": "pos_embed",
    r"encoder\.layers\.": "blocks.",
    r"\.layer_norm1\.": ".norm1.",
    r"\.layer_norm2\.": ".norm2.",
    r"\.self_attn\.out_proj\.": ".attn.proj.",
    r"\.self_attn\.(?=[qkv]_)": ".attn.",
    r"post_layernorm\.": "norm.",
    r"head\.probe$": "attn_pool.latent",
    r"head\.attention\.out_proj\.": "attn_pool.proj.",
    r"head\.attention\.": "attn_pool.",
    r"head\.layernorm\.": "attn_pool.norm.",
    r"head\.mlp\.": "attn_pool.mlp.",
}
"""Part of a name of the image tower -> timm's."""

TEXT: Final[Mapping[str, str]] = {
    r"embeddings\.token_embedding\.": "token_embedding.",
    r"embeddings\.position_embedding\.weight$": "positional_embedding",
    r"encoder\.layers\.": "transformer.resblocks.",
    r"\.layer_norm1\.": ".ln_1.",
    r"\.layer_norm2\.": ".ln_2.",
    r"\.self_attn\.out_proj\.": ".attn.out_proj.",
    r"\.self_attn\.(?=[qkv]_)": ".attn.",
    r"\.mlp\.fc1\.": ".mlp.c_fc.",
    r"\.mlp\.fc2\.": ".mlp.c_proj.",
    r"final_layer_norm\.": "ln_final.",
    r"head\.": "text_projection.",
}
"""Part of a name of the text tower -> open_clip's."""

SIDES: Final = {"vision_model.": ("visual.trunk.", IMAGE), "text_model.": ("text.", TEXT)}
JOINED: Final = {"visual.trunk.": ".attn.qkv.{}", "text.": ".attn.in_proj_{}"}
"""How the joined queries, keys and values are called."""


def is_siglip(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of transformers' SigLIP."""
    return "vision_model.head.probe" in state


def from_siglip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames a SiglipModel, or its image side, to open_clip's; position numbers are left out.

    Raises:
        ValueError: Its patches come from a linear layer: a SigLIP 2 of any aspect (NaFlex), which open_clip has not.
    """
    patches = state.get("vision_model.embeddings.patch_embedding.weight")
    if patches is not None and patches.ndim == 2:
        raise ValueError("it is a SigLIP 2 of any aspect (NaFlex), which open_clip has not; choose one of fixed size")
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith("embeddings.position_ids"):
            continue
        side = next((one for one in SIDES if name.startswith(one)), None)
        if side is None:
            renamed[name] = tensor
            continue
        ahead, table = SIDES[side]
        ours = name.removeprefix(side)
        for theirs, our in table.items():
            ours = re.sub(f"^{theirs}" if theirs[0] != "\\" else theirs, our, ours)
        renamed[f"{ahead}{ours}"] = tensor[None] if ours == "pos_embed" else tensor
    for ahead, joined in JOINED.items():
        _join_projections(renamed, ahead, joined)
    pool = "visual.trunk.attn_pool."
    for kind in ("weight", "bias"):
        fused = renamed.pop(f"{pool}in_proj_{kind}", None)
        if fused is not None:
            width = len(fused) // 3
            renamed[f"{pool}q.{kind}"], renamed[f"{pool}kv.{kind}"] = fused[:width].clone(), fused[width:].clone()
    return renamed


def _join_projections(renamed: dict[str, Tensor], ahead: str, joined: str) -> None:
    for name in [name for name in renamed if name.startswith(ahead) and ".attn.q_proj." in name]:
        parts = [name.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
        if all(part in renamed for part in parts):
            block, kind = name.split(".attn.q_proj.")
            renamed[block + joined.format(kind)] = torch.cat([renamed.pop(part) for part in parts])


def named_siglip(state: Mapping[str, Tensor], *, image_size: Any, source: str) -> str:
    """open_clip's name of a SiglipModel, by the sizes of its text tower, of its pictures and of its patches.

    Args:
        state: Tensors by open_clip's names.
        image_size: Side of its pictures, in pixels.
        source: Where they come from, for messages.

    Raises:
        ValueError: open_clip has none of these sizes.
    """
    tokens, places = (state.get(f"text.{name}") for name in ("token_embedding.weight", "positional_embedding"))
    patches = state.get("visual.trunk.patch_embed.proj.weight")
    if tokens is None or places is None or patches is None:
        lacks = "image" if patches is None else "text"
        raise ValueError(
            f"{source} holds no {lacks} tower of a SigLIP; name the model and pass the file as its weights"
        )
    sizes = {"vocab_size": len(tokens), "width": tokens.shape[1], "context_length": len(places)}
    # SigLIP 2 has image towers of several widths and patches beside one text tower.
    width, side = patches.shape[0], patches.shape[-1]
    found: dict[int, str] = {}
    for name in open_clip.list_models():
        config: Any = open_clip.get_model_config(name)
        text, vision = config["text_cfg"], config["vision_cfg"]
        patch = re.search(r"_patch(\d+)_", str(vision.get("timm_model_name")))
        same = all(text.get(key) == value for key, value in sizes.items()) and config["embed_dim"] == width
        if same and vision.get("timm_pool") == "map" and patch is not None and int(patch[1]) == side:
            found.setdefault(vision["image_size"], str(name))
    # Pictures of 384 pixels hold 27 whole patches of 14, as those of 378 do.
    alike = {
        own: name for own, name in found.items() if isinstance(image_size, int) and own // side == image_size // side
    }
    if alike:
        return alike.get(image_size, next(iter(alike.values())))
    raise ValueError(
        f"{source}: open_clip has no SigLIP for pictures of {image_size} pixels whose text tower has {sizes}, with "
        f"patches of {side} pixels and {width} channels"
    )
