"""`clipself models`: every name that a model can have, and what works with it, asked of the towers themselves."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

import open_clip
import torch
from open_clip.model import _build_vision_tower
from open_clip.pretrained import list_pretrained_tags_by_model
from tqdm import tqdm

from clipself.backbones.hub_text import is_hub_text
from clipself.backbones.loading import load_clip
from clipself.backbones.model_config import PACKAGED, build_tokenizer, named_config, open_clip_name
from clipself.backbones.transformer import TransformerTrunk
from clipself.backbones.trunk import Trunk
from clipself.backbones.trunks import view_trunk
from clipself.backbones.word_encoder import has_word_vectors
from clipself.detection.detectors.table import DETECTORS
from clipself.distillation.methods import METHODS
from clipself.segmentation.segmenters import SEGMENTERS
from clipself.text.columns import align

BY_CLASS_TOKEN: Final = frozenset({"declip", "denserc", "owl", "promptovd", "rovit", *SEGMENTERS})
"""Methods that run a transformer's class token by themselves, or merge it into every patch."""
BY_WORD_VECTORS: Final = frozenset({"baron"})
"""Methods that put vectors in place of words."""
TRAINING_FREE: Final = "training-free"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRow:
    """One name, and what works with it.

    Attributes:
        name: As `--model` takes it.
        tower: Class of its image tower.
        weights: Tags that `--pretrained` knows.
        text: Where texts become tokens: CLIP's byte pairs, or transformers' names on the hub.
        pools_by: What makes an image embedding; this and the rest are empty where there is no dense map.
        patch_size: Stride of the dense map, in pixels.
        image_size: Height and width of pre-training, in whole patches.
        embed_dim: Width of the joint space.
        dense: Whether there is a dense map, and with it region evaluation.
        distil: Distillations that refine it.
        detect: Detectors that stand on it.
        segment: Segmenters that do, those without training as one.
        reason: Why something does not work, in words; empty where all does.
    """

    name: str
    tower: str
    weights: tuple[str, ...]
    text: str
    pools_by: str = ""
    patch_size: int = 0
    image_size: tuple[int, int] = (0, 0)
    embed_dim: int = 0
    dense: bool = False
    distil: tuple[str, ...] = ()
    detect: tuple[str, ...] = ()
    segment: tuple[str, ...] = ()
    reason: str = ""


def list_models(names: Sequence[str] = (), *, progress: bool = False) -> list[ModelRow]:
    """What works with which model; towers are built without memory for their weights.

    Args:
        names: Names, or parts of them in any case ("siglip"); all if empty.
        progress: Whether to show a bar.

    Raises:
        ValueError: No name holds one of them.
    """
    known = [*PACKAGED, *open_clip.list_models()]
    wanted: list[str] = [] if names else known
    for name in names:
        found = [one for one in known if one == open_clip_name(name)]
        found = found or [one for one in known if name.lower() in one.lower()]
        if not found:
            near = get_close_matches(name, known, n=3, cutoff=0.3)
            raise ValueError(f"no model's name holds {name!r}; the nearest are {near}")
        wanted += [one for one in found if one not in wanted]
    return [model_row(name) for name in tqdm(wanted, disable=not progress or len(wanted) < 10, leave=False)]


def model_row(name: str) -> ModelRow:
    """What works with one model.

    Raises:
        ValueError: There is no such model.
    """
    if name in PACKAGED:
        clip = load_clip(name)
        return _row(name, clip.model_cfg, clip.trunk)
    config = named_config(name)
    reason = (
        "" if is_hub_text(config["text_cfg"]) else _refusal(lambda: build_tokenizer(config["text_cfg"], folder=None))
    )
    found = _tower_of(json.dumps([config["embed_dim"], config["vision_cfg"]]))
    if isinstance(found, Trunk) and not reason:
        return _row(name, config, found)
    tower = type(found.tower).__name__ if isinstance(found, Trunk) else found[0]
    reason = reason or str(found[1])  # type: ignore[index]
    return ModelRow(name=name, tower=tower, **_weights_and_text(name, config), reason=reason)


def _row(name: str, config: Mapping[str, Any], trunk: Trunk) -> ModelRow:
    with_class = isinstance(trunk, TransformerTrunk) and trunk.pools_by == "class token"
    missing = {}
    if not with_class:
        missing[BY_CLASS_TOKEN] = "no class token becomes the image embedding"
    if not has_word_vectors(config["text_cfg"]):
        missing[BY_WORD_VECTORS] = "the text tower is not CLIP's causal one"
    left_out = frozenset[str]().union(*missing)
    reasons = [f"{said}: not for {', '.join(sorted(methods))}" for methods, said in missing.items()]
    rows, cols = trunk.native_grid
    stock = getattr(trunk.tower, "trunk", trunk.tower)
    return ModelRow(
        name=name, tower=type(stock).__name__, **_weights_and_text(name, config), pools_by=trunk.pools_by,
        patch_size=trunk.patch_size, image_size=(rows * trunk.patch_size, cols * trunk.patch_size),
        embed_dim=trunk.embed_dim, dense=True,
        distil=tuple(method for method in METHODS if method not in left_out),
        detect=tuple(method for method in DETECTORS if method not in left_out),
        segment=(TRAINING_FREE, *(method for method in SEGMENTERS if method not in left_out)),
        reason="; ".join(reasons),
    )  # fmt: skip


def _weights_and_text(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    text = config["text_cfg"]
    hub = dict.fromkeys(text[key] for key in ("hf_model_name", "hf_tokenizer_name") if text.get(key))
    return {
        "weights": tuple(list_pretrained_tags_by_model(name)) if name not in PACKAGED else (),
        "text": ", ".join(hub) or "CLIP's byte pairs",
    }


@cache
def _tower_of(config: str) -> Trunk | tuple[str, str]:
    """The view of a tower whose weights take no memory, or its class and why there is none."""
    embed_dim, vision = json.loads(config)
    vision["timm_model_pretrained"] = False
    with torch.device("meta"):
        visual: Any = _build_vision_tower(embed_dim, vision)
    held: list[Trunk] = []
    reason = _refusal(lambda: held.append(view_trunk(visual)))
    return held[0] if held else (type(getattr(visual, "trunk", visual)).__name__, reason)


def _refusal(ask: Callable[[], object]) -> str:
    try:
        ask()
    except ValueError as error:
        return str(error)
    return ""


def models_as_json(rows: Sequence[ModelRow]) -> str:
    """One object a name."""
    return json.dumps([asdict(row) for row in rows], indent=1)


def models_as_table(rows: Sequence[ModelRow]) -> str:
    """A line a name, then the reasons, each once."""
    reasons = list(dict.fromkeys(row.reason for row in rows if row.reason))
    notes = {reason: f"({place})" for place, reason in enumerate(reasons, 1)}
    head = ("name", "pools by", "patch", "pixels", "dim", "dense map", "distil", "detect", "segment", "text", "why not")
    table = align(head, [_cells(row, notes.get(row.reason, "")) for row in rows], rule=False)
    return "\n".join([*table, "", *(f"{note} {reason}" for reason, note in notes.items())]).rstrip()


def _cells(row: ModelRow, note: str) -> tuple[str, ...]:
    if not row.dense:
        return (row.name, "-", "-", "-", "-", "no", "no", "no", "no", row.text, note)
    everything = len(METHODS), len(DETECTORS), 1 + len(SEGMENTERS)
    distil, detect, segment = (
        "all" if len(found) == whole else ", ".join(found)
        for found, whole in zip((row.distil, row.detect, row.segment), everything, strict=True)
    )
    sides = "x".join(map(str, row.image_size)) if row.image_size[0] != row.image_size[1] else str(row.image_size[0])
    return (
        row.name, row.pools_by, str(row.patch_size), sides, str(row.embed_dim), "yes", distil, detect, segment,
        row.text, note,
    )  # fmt: skip
