"""Published parameter names to ours, and strict loading that says what does not fit."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from open_clip.model import convert_to_custom_text_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

StateDict = dict[str, Tensor]

SPARE_TENSORS: Final = 1000
"""Tensors that a model may hold beyond twice as many as its weights."""

OPENAI_EXTRAS: Final = ("input_resolution", "context_length", "vocab_size")
"""Integers beside the weights in OpenAI's state dicts; their presence tells that the activation is QuickGELU."""

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


def read_state_dict(path: str | Path) -> StateDict:
    """Reads tensors from safetensors, or from a PyTorch file without running any code in it.

    Training checkpoints are unwrapped ("state_dict", "module", "model") and the prefix "module." is cut off.

    Args:
        path: `.safetensors`, `.pt`, `.pth` or `.bin`.

    Returns:
        Tensors by the names in the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, is a TorchScript archive, would need code to be run, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; check the path")
    try:
        held = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as plain tensors ({first_line(error)}); the file may be damaged, be a TorchScript "
            "archive or hold pickled code, which is never run: export its state_dict as safetensors or with torch.save"
        ) from error
    return _unwrap(held, path)


def _load_torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=None)


def first_line(error: BaseException) -> str:
    """What an error says first, short enough for a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _unwrap(held: Any, path: Path) -> StateDict:
    for key in ("state_dict", "module", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping):
        raise ValueError(
            f"{path} holds a {type(held).__name__}, not a table of tensors; save model.state_dict() instead"
        )
    tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no tensors; its first entries are {sorted(map(str, held))[:5]}")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def is_openai(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of an OpenAI release, whose activation is QuickGELU."""
    return any(name in state for name in OPENAI_EXTRAS)


def is_official_eva(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of the EVA-CLIP and CLIPSelf releases."""
    return "visual.patch_embed.proj.weight" in state and "visual.blocks.0.attn.inner_attn_ln.weight" in state


def from_official_eva(state: Mapping[str, Tensor]) -> StateDict:
    """Renames an EVA-CLIP state dict to the stock open_clip tower; rotary tables are left out."""
    renamed: StateDict = {}
    for name, tensor in state.items():
        if EVA_BUFFER.match(name):
            continue
        if name.startswith("visual."):
            name = "visual.trunk." + name.removeprefix("visual.")
            for theirs, ours in EVA_KEYS.items():
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


CONVERSIONS: Final[Mapping[str, tuple[Callable[[Mapping[str, Tensor]], bool], Callable[..., StateDict]]]] = {
    "official EVA-CLIP": (is_official_eva, from_official_eva),
}
"""Release -> how to recognise its names, how to rename them. open_clip's and OpenAI's names need no renaming."""


def to_model_names(state: Mapping[str, Tensor], model: nn.Module) -> StateDict:
    """Brings a published state dict to the names of a stock open_clip model."""
    renamed = {name: tensor for name, tensor in state.items() if name not in OPENAI_EXTRAS}
    for recognises, convert in CONVERSIONS.values():
        if recognises(renamed):
            renamed = convert(renamed)
    renamed = _match_text_layout(renamed, model)
    own = model.state_dict()
    if "logit_scale" in renamed and "logit_scale" in own:
        renamed["logit_scale"] = renamed["logit_scale"].reshape(own["logit_scale"].shape)
    return renamed


def load_strictly(
    model: nn.Module, state: Mapping[str, Tensor], *, source: str, ignore: Collection[str] = ()
) -> list[str]:
    """Loads every tensor or none: names and shapes must agree, but for a text tower that is absent as a whole.

    Args:
        model: Stock open_clip model.
        state: Tensors by a published or an open_clip name.
        source: Where they come from, for messages.
        ignore: Names or prefixes of tensors in the file that may be left out (extra heads).

    Returns:
        Names of the text tower's tensors when the file holds none of them, else an empty list. Such a text tower is
        set to zero: it cannot be used, and equal files give equal digests.

    Raises:
        ValueError: Tensors are missing, left over or of another shape; the message names the first few.
    """
    renamed = to_model_names(state, model)
    renamed = {name: value for name, value in renamed.items() if not any(name.startswith(part) for part in ignore)}
    own = model.state_dict()
    image_names = {name for name in own if name.startswith("visual.")}
    text_names = [name for name in own if name not in image_names and name not in ("logit_scale", "logit_bias")]
    without_text = not any(name in renamed for name in text_names)
    expected = image_names if without_text else set(own) - {"logit_scale", "logit_bias"}
    only_extra = renamed.keys() - own.keys() and not expected - renamed.keys()
    check_fit(
        renamed,
        own,
        source=source,
        optional=set(own) - expected,
        advice="name these in ignore=[...] if they are heads of another task"
        if only_extra
        else "choose the model that the file was made for",
    )
    absent = {name: torch.zeros_like(own[name]) for name in (text_names if without_text else ())}
    model.load_state_dict({**own, **absent, **renamed}, strict=True)
    return text_names if without_text else []


def check_finite(state: Mapping[str, Tensor], *, source: str) -> None:
    """Refuses numbers that are not finite: scores that come out of them look like any others.

    Raises:
        ValueError: A tensor holds NaN or infinity; the first one is named.
    """
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()):
            broken = int((~torch.isfinite(tensor)).sum())
            if broken:
                raise ValueError(
                    f"{source}: {name} is not finite ({broken} of {tensor.numel()} numbers are NaN or infinite); the "
                    "training that wrote it went wrong, take an earlier state"
                )


def check_fit(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, source: str, advice: str, optional: Collection[str] = ()
) -> None:
    """Compares tensors with what a model holds: names, shapes, kinds of number, and that they are finite.

    Args:
        state: By the model's names.
        own: The model's.
        source: Where the tensors come from, for messages.
        advice: What to do where they do not fit.
        optional: Names that may be missing.

    Raises:
        ValueError: Something differs; the message counts it and names the first few.
    """
    missing = sorted(own.keys() - state.keys() - set(optional))
    left_over = sorted(state.keys() - own.keys())
    reshaped = sorted(name for name in state.keys() & own.keys() if state[name].shape != own[name].shape)
    if missing or left_over or reshaped:
        raise ValueError(f"{_describe_misfit(source, state, own, missing, left_over, reshaped)}\n  {advice}")
    for name in state:
        if own[name].is_floating_point() and not state[name].is_floating_point():
            raise ValueError(
                f"{source}: {name} holds {str(state[name].dtype).removeprefix('torch.')}, the model's are "
                f"{str(own[name].dtype).removeprefix('torch.')}; whole numbers would cut its weights off"
            )
    check_finite(state, source=source)


@contextmanager
def within_budget(state: Mapping[str, Tensor], *, known: Iterable[Tensor] = (), spare: int = 2**24) -> Iterator[None]:
    """Stops a model that grows far beyond the weights that it is built for: a configuration may ask for anything.

    Args:
        state: What will be loaded.
        known: Tensors of parts that are there already, which the model may hold once more.
        spare: Numbers beyond twice as many, for parts that a constructor replaces or that are absent as a whole.

    Raises:
        ValueError: Inside, once there are twice as many tensors or numbers and some more.
    """
    there = [*state.values(), *known]
    left = {"tensors": 2 * len(there) + SPARE_TENSORS, "numbers": 2 * sum(t.numel() for t in there) + spare}

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        left["tensors"] -= 1
        left["numbers"] -= 0 if tensor is None else tensor.numel()
        if min(left.values()) < 0:
            numbers = sum(t.numel() for t in state.values())
            raise ValueError(
                f"the settings ask for far more than the {len(state)} tensors with {numbers} numbers of the weights"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _describe_misfit(
    source: str,
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    missing: list[str],
    left_over: list[str],
    reshaped: list[str],
) -> str:
    lines = [f"{source} does not fit:"]
    if reshaped:
        shapes = (f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}" for name in reshaped[:4])
        lines.append(f"{len(reshaped)} of another shape: " + ", ".join(shapes))
    if missing:
        shapes = (f"{name} {tuple(own[name].shape)}" for name in missing[:4])
        lines.append(f"{len(missing)} missing: " + ", ".join(shapes))
    if left_over:
        shapes = (f"{name} {tuple(state[name].shape)}" for name in left_over[:4])
        lines.append(f"{len(left_over)} that the model has no place for: " + ", ".join(shapes))
    return "\n  ".join(lines)
