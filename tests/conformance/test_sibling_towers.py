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


# --- SAN


SIDE = "side_adapter_network."


def side_parameters(config: dict[str, Any], output_dim: int) -> list[dict[str, Any]]:
    """Published names and shapes of the side network."""
    clip, side = config["clip"], config["side"]
    wide, inner = side["width"], side["embed_channels"]
    table = (side["pos_embed_image_size"] // side["patch"]) ** 2
    shapes: dict[str, list[int]] = {
        "query_embed": [1, side["queries"], wide], "query_pos_embed": [1, side["queries"], wide],
        "vit_model.pos_embed": [1, table, wide],
        "vit_model.patch_embed.proj.weight": [wide, 3, side["patch"], side["patch"]],
        "vit_model.patch_embed.proj.bias": [wide], "mask_decoder.bias_scaling.weight": [1, 1],
        "mask_decoder.bias_scaling.bias": [1],
    }  # fmt: skip
    for place in range(side["depth"]):
        own = f"vit_model.blocks.{place}"
        for name, out, given in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
            shapes |= {f"{own}.{name}.weight": [out * wide, given * wide], f"{own}.{name}.bias": [out * wide]}
        shapes |= {f"{own}.norm{n}.{part}": [wide] for n in (1, 2) for part in ("weight", "bias")}
    for place in config["fusion_map"].values():
        own = f"fusion_layers.layer_{place}.input_proj"
        shapes |= {f"{own}.0.weight": [clip["width"]], f"{own}.0.bias": [clip["width"]]}
        shapes |= {f"{own}.1.weight": [wide, clip["width"], 1, 1], f"{own}.1.bias": [wide]}
    for kind, last in (("query", inner), ("pix", inner), ("attn", inner * clip["heads"])):
        for place, (given, out) in enumerate(((wide, inner), (inner, inner), (inner, last))):
            own = f"mask_decoder.{kind}_mlp.layers.{place}"
            shapes |= {f"{own}.weight": [out, given, *([] if kind == "query" else [1, 1])], f"{own}.bias": [out]}
    rows: list[dict[str, Any]] = [{"name": f"{SIDE}{name}", "shape": shape} for name, shape in shapes.items()]
    rows.append({"name": "ov_classifier.bg_embed", "shape": [1, output_dim]})
    for row in rows:
        name, rank = row["name"], len(row["shape"])
        row["rule"] = (
            "embed"
            if name.endswith("_embed")
            else "matrix"
            if rank > 1
            else "gain"
            if name.endswith("weight")
            else "bias"
        )
    return rows


def perceptron(state: State, name: str, x: Tensor) -> Tensor:
    """Three layers on (..., C), or as convolutions on (B, C, Y, X)."""
    for place in range(3):
        own, weight = (
            f"{SIDE}mask_decoder.{name}.layers.{place}",
            state[f"{SIDE}mask_decoder.{name}.layers.{place}.weight"],
        )
        x = F.conv2d(x, weight, state[f"{own}.bias"]) if weight.ndim == 4 else linear(state, own, x)
        x = F.relu(x) if place < 2 else x
    return x


def side_network(
    state: State, config: dict[str, Any], images: Tensor, taps: list[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Mask logits and attention biases of every supervised depth."""
    side, heads = config["side"], config["clip"]["heads"]
    maps = F.conv2d(images, state[f"{SIDE}vit_model.patch_embed.proj.weight"],
                    state[f"{SIDE}vit_model.patch_embed.proj.bias"], stride=side["patch"])  # fmt: skip
    batch, width, rows, cols = maps.shape
    table = state[f"{SIDE}vit_model.pos_embed"]
    cells = math.isqrt(table.shape[1])
    if table.shape[1] != rows * cols:
        square = table.mT.reshape(1, width, cells, cells)
        table = F.interpolate(square, size=(rows, cols), mode="bicubic", align_corners=False).flatten(2).mT
    positions = torch.cat([state[f"{SIDE}query_pos_embed"], table], dim=1)
    x = torch.cat([state[f"{SIDE}query_embed"].expand(batch, -1, -1), maps.flatten(2).mT], dim=1) + positions
    tap_of = {depth: int(tap) for tap, depth in config["fusion_map"].items()}

    def fuse(depth: int, x: Tensor) -> Tensor:
        if depth not in tap_of:
            return x
        own, seen = f"{SIDE}fusion_layers.layer_{depth}.input_proj", taps[tap_of[depth]].permute(0, 2, 3, 1)
        normed = F.layer_norm(seen, seen.shape[-1:], state[f"{own}.0.weight"], state[f"{own}.0.bias"], eps=1e-6)
        added = F.conv2d(normed.permute(0, 3, 1, 2), state[f"{own}.1.weight"], state[f"{own}.1.bias"])
        added = F.interpolate(added, size=(rows, cols), mode="bilinear", align_corners=False).flatten(2).mT
        return torch.cat([x[:, : side["queries"]], x[:, side["queries"] :] + added], dim=1)

    x, found = fuse(0, x), []
    for depth in range(1, side["depth"] + 1):
        own = f"{SIDE}vit_model.blocks.{depth - 1}"
        normed = F.layer_norm(x, (width,), state[f"{own}.norm1.weight"], state[f"{own}.norm1.bias"], eps=1e-6)
        query, key, value = linear(state, f"{own}.attn.qkv", normed).chunk(3, dim=-1)
        x = x + linear(state, f"{own}.attn.proj", attend(query, key, value, heads=side["heads"]))
        normed = F.layer_norm(x, (width,), state[f"{own}.norm2.weight"], state[f"{own}.norm2.bias"], eps=1e-6)
        x = fuse(depth, x + linear(state, f"{own}.mlp.fc2", F.gelu(linear(state, f"{own}.mlp.fc1", normed))))
        if depth in config["deep_supervision"]:
            asked = perceptron(state, "query_mlp", x[:, : side["queries"]])
            seen = x[:, side["queries"] :].mT.reshape(batch, width, rows, cols)
            masks = torch.einsum("bqc,bcyx->bqyx", asked, perceptron(state, "pix_mlp", seen))
            each = perceptron(state, "attn_mlp", seen).reshape(batch, heads, -1, rows, cols)
            scaling = f"{SIDE}mask_decoder.bias_scaling"
            bias = torch.einsum("bqc,bhcyx->bhqyx", asked, each)
            found.append((masks, bias * state[f"{scaling}.weight"][0, 0] + state[f"{scaling}.bias"][0]))
        x = x + positions if depth < side["depth"] else x
    return found


def recognised(state: State, tokens: Tensor, bias: Tensor, blocks: list[str], heads: int) -> Tensor:
    """Copies of the class token and what they may look at, under one mask (B, h, N, N)."""
    count = bias.shape[2]
    x = torch.cat([tokens[:, :1].expand(-1, count, -1), tokens], dim=1)
    whole = torch.zeros(len(x), heads, x.shape[1], x.shape[1])
    whole[:, :, :, :count] = -100.0
    for place in range(count):
        whole[:, :, place, place] = 0.0
    whole[:, :, :count, count] = -100.0
    whole[:, :, :count, count + 1 :] = bias
    for own in blocks:
        query, key, value = fused(state, f"{own}.attn", norm(state, f"{own}.ln_1", x))
        width, out = query.shape[-1] // heads, []
        for head in range(heads):
            mine = slice(head * width, (head + 1) * width)
            logits = query[..., mine] @ key[..., mine].mT / math.sqrt(width) + whole[:, head]
            out.append(logits.softmax(-1) @ value[..., mine])
        x = x + linear(state, f"{own}.attn.out_proj", torch.cat(out, dim=-1))
        x = x + mlp(state, own, x)
    ended = norm(state, "clip_rec_head.ln_post", x[:, :count]) @ state["clip_rec_head.proj"]
    return F.normalize(ended, dim=-1)


@pytest.mark.parametrize(
    ("clip", "side", "told", "size"),
    [
        pytest.param(
            {"width": 24, "layers": 4, "heads": 2, "patch": 7, "pretrain_res": 21, "output_dim": 10},
            {"width": 18, "depth": 3, "heads": 3, "pos_embed_image_size": 24, "patch": 8, "queries": 3,
             "embed_channels": 12},
            {"clip_scale": 0.7, "tap_last": 2, "fusion_map": {"0": 1, "2": 3}, "deep_supervision": [1, 3]}, (64, 48),
            id="seven-tenths-and-cut-patches",
        ),
        pytest.param(
            {"width": 32, "layers": 3, "heads": 4, "patch": 8, "pretrain_res": 32, "output_dim": 20},
            {"width": 16, "depth": 2, "heads": 1, "pos_embed_image_size": 32, "patch": 8, "queries": 5,
             "embed_channels": 8},
            {"clip_scale": 1.0, "tap_last": 2, "fusion_map": {"1": 0, "0": 2}, "deep_supervision": [2]}, (32, 32),
            id="whole-size-and-one-depth",
        ),
    ],
)  # fmt: skip
def test_san_of_other_sizes(
    tmp_path: Path, clip: dict[str, Any], side: dict[str, Any], told: dict[str, Any], size: tuple[int, int]
) -> None:
    manifest, _ = golden("san_small")
    config = {"clip": clip, "side": side, "logit_scale": 30.0, **told}
    split, layers, heads = config["tap_last"], clip["layers"], clip["heads"]
    rows = parameters("", {**clip, "res": clip["pretrain_res"]}, split=False, blocks="resblocks")
    params = side_parameters(config, clip["output_dim"])
    for row in rows:
        place = int(row["name"].split(".")[1]) if row["name"].startswith("resblocks.") else -1
        late = place >= split or row["name"] in ("proj", "ln_post.weight", "ln_post.bias")
        name = row["name"].replace(f"resblocks.{place}.", f"resblocks.{place - split if late else place}.")
        params.append({**row, "name": f"{'clip_rec_head' if late else 'clip_visual_extractor'}.{name}"})
    state = fill_listed(params, manifest["fill_rule"])
    tower = {name.removeprefix("clip_visual_extractor."): value for name, value in state.items()}
    generator = np.random.default_rng(4)
    images, texts = (
        torch.from_numpy(generator.standard_normal(shape).astype(np.float32))
        for shape in ((2, 3, *size), (4, clip["output_dim"]))
    )
    small = F.interpolate(images, scale_factor=config["clip_scale"], mode="bilinear", align_corners=False)
    tokens, grid = embed(tower, small, clip["patch"])
    taps = []
    for place in range(split + 1):
        taps.append(tokens[:, 1:].mT.reshape(2, -1, *grid))
        tokens = block(tower, f"resblocks.{place}", tokens, heads) if place < split else tokens
    found = side_network(state, config, images, taps)
    masks, bias = found[-1]
    pooled = F.adaptive_max_pool2d(bias.flatten(1, 2), grid).reshape(2, heads, side["queries"], -1)
    late = [f"clip_rec_head.resblocks.{place}" for place in range(layers - split)]
    embedded = recognised(state, tokens, pooled, late, heads)
    columns = F.normalize(torch.cat([F.normalize(texts, dim=-1), state["ov_classifier.bg_embed"]]), dim=-1)
    logits = config["logit_scale"] * embedded @ columns.mT
    enlarged = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)[0].sigmoid()
    semantic = torch.einsum("qk,qyx->kyx", logits[0].softmax(-1)[:, :-1], enlarged)
    arrays = {
        "image": images, "mask_preds": masks, "attn_bias": bias, "mask_embs": embedded, "mask_logits": logits,
        "sem_seg": semantic[:, ::4, ::4], "clip_feat_last": taps[-1], "clip_cls_last": tokens[:, :1].transpose(0, 1),
    }  # fmt: skip
    if len(found) > 1:
        arrays |= {"aux_mask_preds": found[-2][0], "aux_attn_bias": found[-2][1]}
    inputs = {
        "seed": 4,
        "order": [{"name": "image", "shape": [2, 3, *size]}, {"name": "text", "shape": [4, clip["output_dim"]]}],
    }
    counted = sum(math.prod(row["shape"]) for row in params if row["name"].startswith(SIDE))
    manifest |= {"config": config, "params": params, "inputs": inputs, "n_params": {"side": counted}}
    passes(tmp_path, json.loads(json.dumps(manifest)), {name: value.numpy() for name, value in arrays.items()})
