"""A CLIP's sizes as its tensors show them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def config_of_tensors(
    state: Mapping[str, Tensor],
    *,
    source: str,
    quick_gelu: bool,
    heads: int | None = None,
    text_heads: int | None = None,
) -> dict[str, Any]:
    """open_clip's configuration of an OpenAI-style CLIP; the text tower may be absent.

    Args:
        state: Tensors by OpenAI's names ("visual.conv1.weight", "token_embedding.weight").
        source: Where they come from, for messages.
        quick_gelu: The activation, which no tensor shows.
        heads: Attention heads of the image tower; as many as are of width 64 if not given, as in every release.
        text_heads: And of the text tower.

    Raises:
        ValueError: Tensors are missing, or they show no such sizes.
    """
    needed = {"visual.conv1.weight": 4, "visual.positional_embedding": 2, "visual.proj": 2}
    for name, axes in needed.items():
        if name not in state or state[name].ndim != axes:
            shown = tuple(state[name].shape) if name in state else "missing"
            raise ValueError(f"{source}: {name} is {shown}; it is no CLIP vision transformer by OpenAI's names")
    width, _, patch, _ = state["visual.conv1.weight"].shape
    grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    vision: dict[str, Any] = {
        "image_size": grid * patch,
        "patch_size": patch,
        "width": width,
        "layers": depth_of(state, "visual.transformer.resblocks."),
        "head_width": width // heads if heads else 64,
    }
    text: dict[str, Any] = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    if "token_embedding.weight" in state and "positional_embedding" in state:
        vocab_size, text_width = state["token_embedding.weight"].shape
        text = {
            "context_length": len(state["positional_embedding"]),
            "vocab_size": vocab_size,
            "width": text_width,
            "heads": text_heads or max(1, text_width // 64),
            "layers": depth_of(state, "transformer.resblocks."),
        }
    embed_dim = state["visual.proj"].shape[1]
    return {"embed_dim": embed_dim, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": text}


def depth_of(state: Mapping[str, Tensor], prefix: str) -> int:
    """Blocks under a prefix, counted from 0."""
    numbers = [name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)
