"""TIPSv2's folders: what their configuration says; names of tensors, the release's own and transformers', in ours."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

RELEASED: Final[Mapping[str, Mapping[str, str]]] = {
    "vision_encoder.": {
        r"^patch_embed\.proj\.": "embeddings.patch_embeddings.projection.",
        r"^(cls_token|mask_token|register_tokens)$": r"embeddings.\1",
        r"^pos_embed$": "embeddings.position_embeddings",
        r"^norm\.": "layernorm.",
        r"^blocks\.": "encoder.layer.",
        r"\.attn\.proj\.": ".attention.o_proj.",
        r"\.attn\.qkv\.": ".attention.{q_proj,k_proj,v_proj}.",
        r"\.ls([12])\.gamma$": r".layer_scale\1.lambda1",
        r"\.mlp\.c_fc\.": ".mlp.fc1.",
        r"\.mlp\.c_proj\.": ".mlp.fc2.",
        r"\.mlp\.w12\.": ".mlp.{gate_proj,up_proj}.",
        r"\.mlp\.w3\.": ".mlp.down_proj.",
    },
    "text_encoder.": {
        r"^token_embedding\.": "embeddings.token_embedding.",
        r"^transformer\.resblocks\.": "encoder.layers.",
        r"^ln_final\.": "final_layer_norm.",
        r"\.ln_([12])\.": r".layer_norm\1.",
        r"\.attn\.in_proj_": ".self_attn.{q_proj,k_proj,v_proj}.",
        r"\.attn\.": ".self_attn.",
        r"\.mlp\.c_fc\.": ".mlp.fc1.",
        r"\.mlp\.c_proj\.": ".mlp.fc2.",
    },
}
"""The release's two sides -> part of a name -> transformers'; braces hold those that it keeps in one tensor."""
SIDES: Final = {
    "vision_model.": "visual.model.", "text_model.": "text.model.",
    "vision_encoder.": "visual.model.", "text_encoder.": "text.model.",
}  # fmt: skip
"""What a name begins with -> what ours does."""
HEADS: Final = {"vit_base": 12, "vit_large": 16, "vit_so400m": 16, "vit_giant2": 24}
"""`vision_fn` of the release's configuration -> heads; all other sizes are those of the tensors."""
VISION: Final = frozenset(
    {
        "hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio", "hidden_act", "layer_norm_eps",
        "image_size", "patch_size", "qkv_bias", "use_swiglu_ffn", "num_register_tokens",
    }
)  # fmt: skip
TEXT: Final = frozenset(
    {
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "max_position_embeddings", "hidden_act", "layer_norm_eps", "pad_token_id", "scale_sqrt_depth",
        "pooling_epsilon",
    }
)  # fmt: skip
"""What is taken from transformers' configurations; the rest changes no number of a trained model."""


def is_tips(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a TIPSv2, the release's own or transformers'."""
    return "vision_encoder.register_tokens" in state or "vision_model.embeddings.register_tokens" in state


def from_tips(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames a TIPSv2 to ours; its temperature becomes the scale that it divides by."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        side = next((one for one in SIDES if name.startswith(one)), None)
        if name == "temperature":
            renamed["logit_scale"] = -tensor.log()
        elif side is None:
            renamed[name] = tensor
        else:
            ours = name.removeprefix(side)
            for theirs, our in RELEASED.get(side, {}).items():
                ours = re.sub(theirs, our, ours)
            renamed |= _parted(SIDES[side] + ours, tensor)
    return renamed


def _parted(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """One tensor, or those that braces in its name say it is made of."""
    ahead, brace, rest = name.partition("{")
    if not brace:
        return {name: tensor}
    parts, _, behind = rest.partition("}")
    names = parts.split(",")
    return {f"{ahead}{part}{behind}": one.clone() for part, one in zip(names, tensor.chunk(len(names)), strict=True)}


def tips_config(held: Mapping[str, Any], state: Mapping[str, Tensor], *, source: str) -> dict[str, Any]:
    """A configuration that `build_clip` takes.

    Args:
        held: `config.json`, of transformers' layout or the release's flat one.
        state: Tensors by our names.
        source: Where they come from, for messages.

    Raises:
        ValueError: It does not say what the tensors do not show, or a text tower is missing.
    """
    nested = isinstance(held.get("vision_config"), Mapping) and isinstance(held.get("text_config"), Mapping)
    sides = _stated(held, state, source=source) if nested else _released(held, state, source=source)
    vision, text = sides
    if not isinstance(vision.get("image_size"), int) or not isinstance(vision.get("patch_size"), int):
        raise ValueError(f"{source}: image_size and patch_size must be whole numbers, a TIPSv2 sees squares")
    length = text["max_position_embeddings"]
    return {
        "embed_dim": vision["hidden_size"],
        "vision_cfg": {"image_size": vision["image_size"], "patch_size": vision["patch_size"], "tipsv2": vision},
        "text_cfg": {
            "context_length": length, "vocab_size": text["vocab_size"], "no_causal_mask": True,
            "hf_tokenizer_name": "google/tipsv2", "tokenizer_kwargs": {"clean": "whitespace"}, "tipsv2": text,
        },
    }  # fmt: skip


def temperature_of(held: Mapping[str, Any]) -> Tensor:
    """The scale of cosines, as its logarithm, where no tensor holds it."""
    stated = held.get("temperature_init_value", held.get("temperature", 0.005))
    usable = isinstance(stated, int | float) and 0 < stated < math.inf
    return torch.tensor(-math.log(stated if usable else 0.005))


def _stated(
    held: Mapping[str, Any], state: Mapping[str, Tensor], *, source: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    from clipself.backbones.tips import import_tips

    tips = import_tips()
    found = []
    for key, kind, wanted in (
        ("vision_config", tips.Tipsv2VisionConfig, VISION), ("text_config", tips.Tipsv2TextConfig, TEXT)
    ):  # fmt: skip
        usual = kind()
        full = {name: getattr(usual, name) for name in wanted}
        found.append({**full, **{name: value for name, value in held[key].items() if name in wanted}})
    _measured(state, source=source)
    return found[0], found[1]


def _released(
    held: Mapping[str, Any], state: Mapping[str, Tensor], *, source: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    kind = held.get("vision_fn")
    if kind not in HEADS:
        raise ValueError(f"{source}: vision_fn is {kind!r:.40}, of a TIPSv2 it is one of {', '.join(HEADS)}")
    sizes = _measured(state, source=source)
    swiglu = held.get("ffn_layer") == "swiglu"
    width, inner = sizes["width"], sizes["inner"]
    vision = {
        "hidden_size": width, "num_hidden_layers": sizes["layers"], "num_attention_heads": HEADS[kind],
        "mlp_ratio": 4 if swiglu else inner / width, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        "image_size": held.get("img_size"), "patch_size": held.get("patch_size"), "qkv_bias": True,
        "use_swiglu_ffn": swiglu, "num_register_tokens": sizes["registers"],
    }  # fmt: skip
    text = {
        "vocab_size": sizes["tokens"], "hidden_size": width, "intermediate_size": sizes["text_inner"],
        "num_hidden_layers": sizes["text_layers"], "num_attention_heads": held.get("text_num_heads"),
        "max_position_embeddings": held.get("max_len", 64), "hidden_act": "relu", "layer_norm_eps": 1e-5,
        "pad_token_id": 0, "scale_sqrt_depth": True, "pooling_epsilon": 1e-8,
    }  # fmt: skip
    return vision, text


def _measured(state: Mapping[str, Tensor], *, source: str) -> dict[str, int]:
    """Sizes that the tensors show.

    Raises:
        ValueError: One of the tensors that show them is missing.
    """
    try:
        block, sentence = "visual.model.encoder.layer.", "text.model.encoder.layers."
        mlp = state.get(f"{block}0.mlp.fc1.weight")
        return {
            "width": state["visual.model.embeddings.cls_token"].shape[-1],
            "registers": state["visual.model.embeddings.register_tokens"].shape[1],
            "layers": sum(re.fullmatch(rf"{re.escape(block)}\d+\.norm1\.weight", name) is not None for name in state),
            "inner": len(mlp if mlp is not None else state[f"{block}0.mlp.gate_proj.weight"]),
            "tokens": len(state["text.model.embeddings.token_embedding.weight"]),
            "text_layers": sum(
                re.fullmatch(rf"{re.escape(sentence)}\d+\.layer_norm1\.weight", name) is not None for name in state
            ),
            "text_inner": len(state[f"{sentence}0.mlp.fc1.weight"]),
        }
    except (KeyError, IndexError) as error:
        raise ValueError(f"{source} lacks {error} of a TIPSv2; both towers are needed") from error
