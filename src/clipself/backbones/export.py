"""Out again: a folder that stock open_clip reads, and averages of two sets of weights."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.gates import blend_gates, set_gates, write_gates
from clipself.backbones.hub_text import save_hub_text
from clipself.backbones.model_folder import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME
from clipself.files import write_bytes, write_json


def save_clip(
    clip: DenseCLIP,
    folder: str | Path,
    *,
    card: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Writes a model so that `open_clip.create_model("local-dir:FOLDER")` reads the same embeddings back.

    Args:
        clip: The model.
        folder: Made when missing; three files are written, each atomically: `open_clip_config.json`,
            `open_clip_model.safetensors`, `model_card.json`; gates of values, which stock open_clip does not know, lie
            in a file of their own. A tokenizer's merges file is copied along, and so is what transformers' tokenizers
            and text towers need.
        card: What the reader should know (recipe, data, licence, scores); added to the card.
        dtype: Storage type of floating-point tensors; None keeps theirs.

    Returns:
        The folder.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    clip = clip if dtype is None else _rounded(clip, dtype)
    tensors = {
        name: (value.to(dtype) if dtype is not None and value.is_floating_point() else value).detach().cpu().clone()
        for name, value in clip.clip.state_dict().items()
        if clip.identity.text is not None or name.startswith("visual.") or name in ("logit_scale", "logit_bias")
    }
    write_bytes(folder / WEIGHTS_NAME, save(tensors, metadata={"format": "pt"}))
    write_gates(clip.gates, folder)
    preprocess = {"mean": list(clip.image_mean), "std": list(clip.image_std)}
    write_json(folder / CONFIG_NAME, {"model_cfg": _portable(clip, folder), "preprocess_cfg": preprocess})
    save_hub_text(clip, folder)
    write_json(folder / CARD_NAME, {**_facts(clip), **(card or {})})
    return folder


@torch.no_grad()
def _rounded(clip: DenseCLIP, dtype: torch.dtype) -> DenseCLIP:
    """The model as it will be read back, so that its card tells the digest of that."""
    twin = clip.copy()
    for value in twin.clip.state_dict().values():
        if value.is_floating_point():
            value.copy_(value.to(dtype))
    return twin


def _facts(clip: DenseCLIP) -> dict[str, Any]:
    return {
        "name": clip.name,
        "image_tower": clip.identity.image,
        "text_tower": clip.identity.text,
        "weights_hash": clip.weights_hash(),
        "patch_size": clip.patch_size,
        "image_size": list(clip.image_size),
        "embed_dim": clip.embed_dim,
        **({} if clip.gates is None else {"value_gates": list(clip.gates.shape)}),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _portable(clip: DenseCLIP, folder: Path) -> dict[str, Any]:
    """The configuration with a merges file beside it instead of a path into this machine."""
    config = deepcopy(clip.model_cfg)
    source = clip.merges_file
    if source is not None:
        config["text_cfg"]["tokenizer_kwargs"]["bpe_path"] = source.name
        if source.resolve() != (folder / source.name).resolve():
            write_bytes(folder / source.name, source.read_bytes())
    return config


@torch.no_grad()
def blend_clips(student: DenseCLIP, original: DenseCLIP, alpha: float) -> DenseCLIP:
    """Averages two models tensor by tensor: alpha * student + (1 - alpha) * original.

    Source: CLIPSelf, released training code; every floating-point entry of the state dict takes part.

    Args:
        student: The refined model.
        original: The model it started from.
        alpha: Share of the student in [0, 1]; 1 gives the student, 0 the original, exactly.

    Returns:
        A new model.

    Raises:
        ValueError: alpha is outside [0, 1], or the two are not one architecture with one text tower.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha={alpha} is not in [0, 1]; it is the share of the student")
    check_relatives(student, original)
    blended = student.copy()
    ours, theirs = student.clip.state_dict(), original.clip.state_dict()
    mixed = {
        name: (alpha * ours[name].double() + (1.0 - alpha) * theirs[name].double()).to(ours[name].dtype)
        if ours[name].is_floating_point()
        else ours[name]
        for name in ours
    }
    blended.clip.load_state_dict(mixed, strict=True)
    set_gates(blended, blend_gates(student.gates, original.gates, alpha))
    return blended


def sweep_blends(student: DenseCLIP, original: DenseCLIP, alphas: Sequence[float]) -> Iterator[tuple[float, DenseCLIP]]:
    """The blends for several alphas, one at a time so that memory stays flat."""
    for alpha in alphas:
        yield alpha, blend_clips(student, original, alpha)


def check_relatives(student: DenseCLIP, original: DenseCLIP) -> None:
    """Refuses a student that cannot have come from this original.

    Raises:
        ValueError: They are not one architecture, or their text towers come from two releases.
    """
    ours, theirs = student.clip.state_dict(), original.clip.state_dict()
    differing = [name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape]
    differing += [name for name in theirs if name not in ours]
    if differing:
        name = differing[0]
        shapes = [tuple(state[name].shape) if name in state else None for state in (ours, theirs)]
        raise ValueError(
            f"{student.name} and {original.name} are not one architecture, so one cannot have become the other: {name} "
            f"is {shapes[0]} in the student and {shapes[1]} in the original"
        )
    if None not in (student.identity.text, original.identity.text) and student.identity.text != original.identity.text:
        raise ValueError(
            f"the student's text tower comes from {student.identity.text!r}, the original's from "
            f"{original.identity.text!r}; a student goes with the model it was distilled from"
        )
