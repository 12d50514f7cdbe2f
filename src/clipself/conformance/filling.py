"""Weights by rule: every parameter follows from its published name and shape, so none has to be stored."""

import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import clip_from_config

Row = TypeVar("Row")
Made = TypeVar("Made")

TABLES = ("pos_embed", "positional_embedding", "cls_token", "class_embedding")


def noise(name: str, shape: Iterable[int]) -> NDArray[np.float32]:
    """Standard normal numbers seeded by the CRC-32 of a name, drawn in float64 and kept in float32."""
    generator = np.random.default_rng(zlib.crc32(name.encode("utf-8")))
    return generator.standard_normal(tuple(shape)).astype(np.float32)


def kind_of(name: str, shape: tuple[int, ...]) -> str:
    """Table, gain, bias or matrix; told by the last part of the name and the rank."""
    if name.rsplit(".", 1)[-1] in TABLES:
        return "table"
    if len(shape) == 1:
        return "gain" if name.endswith(".weight") else "bias"
    return "matrix"


SCALES: Final[Mapping[str, float]] = {"table": 0.02, "embed": 0.02, "gain": 0.05, "bias": 0.02}
"""Standard deviations where a manifest tells none."""


def told_scales(rule: Mapping[str, Any]) -> dict[str, float]:
    """Standard deviations by the words of a manifest's `fill_rule`, such as "bias: any other rank 1 -> 0.02*n"."""
    lines = rule.get("rule_order") or [f"{kind}: {words}" for kind, words in rule.items()]
    told = {}
    for line in lines:
        found = re.search(r"([0-9.]+)\s*\*\s*n\b", line)
        if found is not None:
            told[line.split(":")[0]] = float(found.group(1))
    return {**SCALES, **told}


def scale_of(kind: str, shape: tuple[int, ...], scales: Mapping[str, float] = SCALES) -> float:
    """Standard deviation of a kind of parameter."""
    if kind == "matrix":
        return float(1.0 / np.sqrt(np.prod(shape[1:], dtype=np.float64)))
    return scales[kind]


def fill(
    name: str,
    shape: Iterable[int],
    kind: str | None = None,
    value: float | None = None,
    *,
    scales: Mapping[str, float] = SCALES,
) -> Tensor:
    """One parameter by the rule.

    Args:
        name: Full published name, prefix included.
        shape: Its shape.
        kind: "table" or "embed", "gain", "bias", "matrix", "const", "zero", "one"; None tells it from the name.
        value: The value of a "const".
        scales: Standard deviations by kind.

    Raises:
        ValueError: The kind is unknown.
    """
    sizes = tuple(shape)
    kind = kind or kind_of(name, sizes)
    if kind in ("const", "zero", "one"):
        constant = {"const": value, "zero": 0.0, "one": 1.0}[kind]
        return torch.full(sizes, float(constant if constant is not None else 0.0))
    if kind not in ("table", "embed", "gain", "bias", "matrix"):
        raise ValueError(f"unknown fill rule {kind!r} of {name}")
    numbers = np.float32(scale_of(kind, sizes, scales)) * noise(name, sizes)
    return torch.from_numpy(np.asarray(np.float32(1.0) + numbers if kind == "gain" else numbers))  # scalars too


def fill_listed(parameters: Iterable[Mapping[str, Any]], rule: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """All parameters that a manifest lists, by their published names.

    Args:
        parameters: Rows of name, shape and kind.
        rule: The manifest's `fill_rule`, whose standard deviations hold.
    """
    rows, scales = list(parameters), told_scales(rule or {})
    names = [str(row["name"]) for row in rows]
    return dict(
        zip(
            names,
            in_threads(
                lambda row: fill(
                    row["name"], row["shape"], row.get("rule", row.get("kind")), row.get("value"), scales=scales
                ),
                rows,
            ),
            strict=True,
        )
    )


def small_clip(config: Mapping[str, Any], state: Mapping[str, Tensor], *, image_size: int) -> DenseCLIP:
    """The small OpenAI tower of a manifest, beside a text tower that nobody asks.

    Args:
        config: `width`, `layers`, `heads`, `patch` and `output_dim`.
        state: Its tensors by OpenAI's names.
        image_size: Side of the images of its position table, in pixels.
    """
    vision = {
        "image_size": image_size,
        "patch_size": config["patch"],
        "width": config["width"],
        "layers": config["layers"],
        "head_width": config["width"] // config["heads"],
    }
    text = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    model_cfg = {"embed_dim": config["output_dim"], "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    return clip_from_config("small tower", model_cfg, state, source="filled by rule")


def fill_manifest(manifest: Mapping[str, Any], *, prefix: str = "") -> dict[str, Tensor]:
    """All parameters of a manifest by its own rule, without what stands ahead of their names."""
    filled = fill_listed(manifest.get("params", manifest.get("parameters", [])), manifest.get("fill_rule"))
    return {name.removeprefix(prefix): value for name, value in filled.items()}


def in_threads(make: Callable[[Row], Made], rows: Iterable[Row]) -> list[Made]:
    """One result a row, in order; numpy draws outside the interpreter's lock, so cores share hundreds of millions."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(make, rows))
