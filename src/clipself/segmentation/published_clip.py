"""A CLIP out of the tensors of a published segmenter: its sizes are read from them, loading is strict."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import clip_from_config


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
        "layers": depth_of(state, "visual.transformer.resblocks."),
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
            "layers": depth_of(state, "transformer.resblocks."),
        }
    model_cfg = {
        "embed_dim": state["visual.proj"].shape[1],
        "quick_gelu": True,
        "vision_cfg": vision,
        "text_cfg": text,
    }
    return clip_from_config(name, model_cfg, state, source=source)


def depth_of(state: Mapping[str, Tensor], prefix: str) -> int:
    """Blocks under a prefix, counted from 0."""
    return 1 + max(
        (int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix)), default=-1
    )


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
