"""Weights into models: every tensor or none, and a sentence for what does not fit."""

import hashlib
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from clipself.backbones.layouts import layout_of, to_model_names, without_wrappers

log = logging.getLogger(__name__)

LOW_RANK: Final = re.compile(r"(^|\.)lora_(embedding_)?[AB](\.|$)")
"""Names of updates that stand beside a weight and change it."""

SPARE_TENSORS: Final = 1000
"""Tensors that a model may hold beyond twice as many as its weights."""


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
    bare, told = without_wrappers(state)
    if told:
        log.warning("%s %s", source, told)
    layout = layout_of(bare)
    try:
        renamed = to_model_names(bare, model)
    except ValueError as error:
        raise ValueError(f"{source} cannot be read: {error}") from error
    renamed = {name: value for name, value in renamed.items() if not any(name.startswith(part) for part in ignore)}
    own = model.state_dict()
    image_names = {name for name in own if name.startswith("visual.")}
    text_names = [name for name in own if name not in image_names and name not in ("logit_scale", "logit_bias")]
    without_text = not any(name in renamed for name in text_names)
    expected = image_names if without_text else set(own) - {"logit_scale", "logit_bias"}
    advice = layout.advice if layout is not None else "choose the model that the file was made for"
    if renamed.keys() - own.keys() and not expected - renamed.keys():
        advice = "name these in ignore=[...] if they are heads of another task"
    if any(LOW_RANK.search(name) for name in renamed):
        advice = (
            "it holds low-rank updates (LoRA) beside the weights that they change; merge them where it was trained "
            "(merge_and_unload of peft), and save the whole again"
        )
    check_fit(renamed, own, source=source, optional=set(own) - expected, advice=advice)
    absent = {name: torch.zeros_like(own[name]) for name in (text_names if without_text else ())}
    model.load_state_dict({**own, **absent, **renamed}, strict=True)
    return text_names if without_text else []


def digest_tensors(state: Mapping[str, Tensor]) -> str:
    """A short digest of weights, for cache keys and cards: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        bytes_held: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(bytes_held)
    return digest.hexdigest()[:16]


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
    if state and not any(bool(tensor.any()) for tensor in state.values()):
        raise ValueError(
            f"{source}: all numbers of its {len(state)} tensors are 0; save the model where its weights are gathered, "
            "not while they are sharded or offloaded"
        )


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
