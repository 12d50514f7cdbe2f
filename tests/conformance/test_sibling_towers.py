"""Towers of manifests with other widths, depths and grids than the golden ones', block by block."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.support.siblings import golden, passes
from torch import Tensor

from clipself.conformance.filling import fill_listed

State = dict[str, Tensor]


def norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def fused(state: State, name: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values; one matrix or three beside one bias."""
    if f"{name}.in_proj_weight" in state:
        weight = state[f"{name}.in_proj_weight"]
    else:
        weight = torch.cat([state[f"{name}.{part}_proj_weight"] for part in "qkv"])
    query, key, value = F.linear(x, weight, state[f"{name}.in_proj_bias"]).chunk(3, dim=-1)
    return query, key, value


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attention (B, N, C) head by head."""
    width, out = query.shape[-1] // heads, []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        logits = query[..., own] @ key[..., own].mT / math.sqrt(width)
        out.append(logits.softmax(-1) @ value[..., own])
    return torch.cat(out, dim=-1)


def mlp(state: State, name: str, x: Tensor) -> Tensor:
    hidden = linear(state, f"{name}.mlp.c_fc", norm(state, f"{name}.ln_2", x))
    return linear(state, f"{name}.mlp.c_proj", hidden * torch.sigmoid(1.702 * hidden))


def block(state: State, name: str, x: Tensor, heads: int) -> Tensor:
    mixed = attend(*fused(state, f"{name}.attn", norm(state, f"{name}.ln_1", x)), heads=heads)
    x = x + linear(state, f"{name}.attn.out_proj", mixed)
    return x + mlp(state, name, x)


def embed(state: State, images: Tensor, patch: int) -> tuple[Tensor, tuple[int, int]]:
    """Tokens ahead of the first block, and the grid."""
    maps = F.conv2d(images, state["conv1.weight"], stride=patch)
    table, grid = state["positional_embedding"], (maps.shape[2], maps.shape[3])
    side = math.isqrt(len(table) - 1)
    if grid != (side, side):
        square = table[1:].T.reshape(1, -1, side, side)
        resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
        table = torch.cat([table[:1], resized[0].flatten(1).T])
    tokens = torch.cat([state["class_embedding"].expand(len(maps), 1, -1), maps.flatten(2).mT], dim=1)
    return norm(state, "ln_pre", tokens + table), grid


def parameters(prefix: str, config: dict[str, Any], *, split: bool, blocks: str) -> list[dict[str, Any]]:
    """Published names and shapes of an image tower."""
    width, table = config["width"], (config["res"] // config["patch"]) ** 2 + 1
    shapes: dict[str, list[int]] = {
        "class_embedding": [width], "positional_embedding": [table, width], "proj": [width, config["output_dim"]],
        "conv1.weight": [width, 3, config["patch"], config["patch"]],
    }  # fmt: skip
    norms = ["ln_pre", "ln_post"]
    for place in range(config["layers"]):
        own = f"{blocks}.{place}"
        norms += [f"{own}.ln_1", f"{own}.ln_2"]
        parts = {f"{part}_proj_weight": [width, width] for part in "qkv"} if split else {
            "in_proj_weight": [3 * width, width]
        }  # fmt: skip
        shapes |= {f"{own}.attn.{name}": shape for name, shape in parts.items()}
        shapes |= {
            f"{own}.attn.in_proj_bias": [3 * width], f"{own}.attn.out_proj.weight": [width, width],
            f"{own}.attn.out_proj.bias": [width], f"{own}.mlp.c_fc.weight": [4 * width, width],
            f"{own}.mlp.c_fc.bias": [4 * width], f"{own}.mlp.c_proj.weight": [width, 4 * width],
            f"{own}.mlp.c_proj.bias": [width],
        }  # fmt: skip
    shapes |= {f"{name}.{part}": [width] for name in norms for part in ("weight", "bias")}
    rules = {"class_embedding": "embed", "positional_embedding": "embed"}
    return [
        {"name": f"{prefix}{name}", "shape": shape,
         "rule": rules.get(name, "matrix" if len(shape) > 1 else "gain" if name.endswith("weight") else "bias")}
        for name, shape in shapes.items()
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"width": 24, "layers": 3, "heads": 2, "patch": 4, "res": 12, "output_dim": 10}, (16, 20)),
        ({"width": 40, "layers": 5, "heads": 5, "patch": 6, "res": 18, "output_dim": 48}, (18, 18)),
    ],
)
def test_dense_towers_of_other_sizes(
    tmp_path: Path, version: str, config: dict[str, Any], size: tuple[int, int]
) -> None:
    manifest, _ = golden(f"catseg_{version}_dense_vit")
    prefix = manifest["official_prefix"]
    params = parameters(prefix, config, split=version == "v2", blocks="transformer.resblocks")
    state = {name.removeprefix(prefix): value for name, value in fill_listed(params, manifest["fill_rule"]).items()}
    image = torch.from_numpy(np.random.default_rng(9).standard_normal((2, 3, *size)).astype(np.float32))
    x, grid = embed(state, image, config["patch"])
    heads, layers, taps = config["heads"], config["layers"], []
    for place in range(layers - 1):
        x = block(state, f"transformer.resblocks.{place}", x, heads)
        taps.append(x)
    last = f"transformer.resblocks.{layers - 1}"
    value = fused(state, f"{last}.attn", norm(state, f"{last}.ln_1", x))[2]
    dense = (x if version == "v1" else x[:, :1]) + linear(state, f"{last}.attn.out_proj", value)
    dense = dense + mlp(state, last, dense)
    arrays = {
        "image": image, "dense": norm(state, "ln_post", dense) @ state["proj"], "tap_a": taps[0], "tap_b": taps[-1],
    }  # fmt: skip
    if grid == (config["res"] // config["patch"],) * 2:
        whole = block(state, last, x, heads)[:, 0]
        arrays["pooled"] = norm(state, "ln_post", whole) @ state["proj"]
    told = {"tap_a": "token sequence after block index 0", "tap_b": f"after block index {layers - 2}"}
    inputs = {"seed": 9, "order": [{"name": "image", "shape": list(image.shape)}]}
    names = {"res": "input_resolution"}
    own = {names.get(name, name): value for name, value in config.items()}
    manifest |= {"config": own, "params": params, "inputs": inputs, "outputs": told}
    passes(tmp_path, json.loads(json.dumps(manifest)), {name: value.numpy() for name, value in arrays.items()})
