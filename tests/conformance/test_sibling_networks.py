"""Networks of manifests with other sizes than the golden ones', against the published steps written out one by one."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.support.siblings import Array, check, golden, passes
from torch import Tensor

from clipself.conformance.catseg import aggregator_settings
from clipself.conformance.filling import fill_listed
from clipself.segmentation.catseg.aggregator import CostAggregator

# --- multi-scale deformable attention


def bilinear(map_YXC: Array, x: float, y: float) -> Array:
    """At a place in cells whose centres are whole numbers; zeros outside."""
    found = np.zeros(map_YXC.shape[-1])
    for row in (math.floor(y), math.floor(y) + 1):
        for col in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < map_YXC.shape[0] and 0 <= col < map_YXC.shape[1]:
                found += map_YXC[row, col] * (1 - abs(y - row)) * (1 - abs(x - col))
    return found


@pytest.mark.parametrize("kind", ["points", "boxes"])
@pytest.mark.parametrize(("heads", "points", "shapes"), [(2, 3, [[4, 3]]), (3, 1, [[2, 5], [1, 1], [3, 2]])])
def test_deformable_attention(tmp_path: Path, kind: str, heads: int, points: int, shapes: list[list[int]]) -> None:
    width, levels, queries = 12, len(shapes), 4
    generator, cells = np.random.default_rng(6), sum(rows * cols for rows, cols in shapes)
    sizes = {
        "sampling_offsets": heads * levels * points * 2, "attention_weights": heads * levels * points,
        "value_proj": width, "output_proj": width,
    }  # fmt: skip
    params = [
        {"name": f"encoder.self_attn.{name}.{part}", "shape": shape, "rule": rule}
        for name, out in sizes.items()
        for part, shape, rule in (("weight", [out, width], "matrix"), ("bias", [out], "bias"))
    ]
    rule = {"bias": "1.5*n (as biases of offsets are)"}
    state = {name.split("self_attn.")[1]: value.double().numpy() for name, value in fill_listed(params, rule).items()}
    last = 4 if kind == "boxes" else 2
    arrays = {
        "query": generator.standard_normal((1, queries, width)).astype(np.float32),
        "value": generator.standard_normal((1, cells, width)).astype(np.float32),
        f"reference_{kind}": generator.random((1, queries, levels, last)).astype(np.float32),
        "padding": generator.random((1, cells)) > 0.8, f"g_{kind}": np.ones((1, queries, width), dtype=np.float32),
    }  # fmt: skip

    def through(name: str, x: Array) -> Array:
        moved: Array = x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        return moved

    values = through("value_proj", arrays["value"][0]) * ~arrays["padding"][0][:, None]
    own, out = width // heads, np.zeros((1, queries, width))
    for q, row in enumerate(arrays["query"][0].astype(float)):
        offsets = through("sampling_offsets", row).reshape(heads, levels, points, 2)
        logits = through("attention_weights", row).reshape(heads, -1)
        weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        mixed = np.zeros(width)
        for head in range(heads):
            start = 0
            for level, (rows, cols) in enumerate(shapes):
                map_YXC = values[start : start + rows * cols].reshape(rows, cols, width)
                start += rows * cols
                place = arrays[f"reference_{kind}"][0, q, level].astype(float)
                for point in range(points):
                    dx, dy = offsets[head, level, point]
                    if kind == "points":
                        x, y = place[0] + dx / cols, place[1] + dy / rows
                    else:
                        x, y = place[:2] + np.array([dx, dy]) / points * place[2:] * 0.5
                    seen = bilinear(map_YXC, x * cols - 0.5, y * rows - 0.5)
                    mine = slice(head * own, (head + 1) * own)
                    mixed[mine] += weights[head, level * points + point] * seen[mine]
        out[0, q] = through("output_proj", mixed)
    arrays[f"out_{kind}"] = out
    manifest = golden("ov_detr_deform_attn")[0]
    config = {"d": width, "heads": heads, "levels": levels, "points": points, "spatial_shapes": shapes}
    passes(tmp_path, {**manifest, "config": config, "params": params, "fill_rule": rule}, arrays)


# --- CAT-Seg's aggregator


def parted(x: Tensor, axis: int, sizes: tuple[int, ...]) -> Tensor:
    """One axis as several; -1 is what is left."""
    axis %= x.ndim
    return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])


class Published:
    """The aggregator's steps on tensors of published names, without a class of ours."""

    def __init__(self, config: dict[str, Any], state: dict[str, Tensor]) -> None:
        self.config, self.state = config, state

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def swin(self, name: str, x: Tensor, guide: Tensor, *, shift: int) -> Tensor:
        """One block on maps (M, Y, X, C) with guidance (M, Y, X, G)."""
        rows, cols = x.shape[1:3]
        side = self.config["window_size"]
        if min(rows, cols) <= side:
            side, shift = min(rows, cols), 0
        normed = torch.cat([self.norm(f"{name}.norm1", x), guide], dim=-1)
        value = self.norm(f"{name}.norm1", x)
        moved, own = (one.roll((-shift, -shift), dims=(1, 2)) for one in (normed, value))
        region = torch.zeros(rows, cols)
        parts = (slice(0, -side), slice(-side, -shift), slice(-shift, None)) if shift else (slice(None),)
        for number, (down, right) in enumerate((a, b) for a in parts for b in parts):
            region[down, right] = number
        out, heads = torch.zeros_like(x), self.config["nheads"]
        for top in range(0, rows, side):
            for left in range(0, cols, side):
                here = (slice(None), slice(top, top + side), slice(left, left + side))
                qk, v = moved[here].flatten(1, 2), own[here].flatten(1, 2)
                apart = region[here[1:]].flatten()
                mask = torch.where(apart[:, None] == apart[None], 0.0, -100.0)
                pieces = [
                    parted(part, -1, (heads, -1)).transpose(1, 2)
                    for part in (
                        self.linear(f"{name}.attn.q", qk), self.linear(f"{name}.attn.k", qk),
                        self.linear(f"{name}.attn.v", v),
                    )
                ]  # fmt: skip
                scores = pieces[0] @ pieces[1].mT / math.sqrt(pieces[0].shape[-1]) + mask
                mixed = (scores.softmax(-1) @ pieces[2]).transpose(1, 2).flatten(2)
                out[here] = parted(self.linear(f"{name}.attn.proj", mixed), 1, (side, -1))
        x = x + out.roll((shift, shift), dims=(1, 2))
        hidden = F.gelu(self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x)))
        return x + self.linear(f"{name}.mlp.fc2", hidden)

    def classes(self, name: str, x: Tensor, texts: Tensor, pooling: int) -> Tensor:
        """Attention among the classes of each place, x (T, Y, X, C), texts (T, G)."""
        size, state = x.shape[1:3], self.state
        pooled = F.avg_pool2d(x.permute(0, 3, 1, 2), pooling).permute(2, 3, 0, 1)
        places, cap = pooled.flatten(0, 1), self.config.get("pad_len", 0)
        padded, guide = places, texts
        if cap and len(texts) < cap:
            spare = cap - len(texts)
            padded = torch.cat([places, state[f"{name}.padding_tokens"].expand(len(places), spare, -1)], dim=1)
            guide = torch.cat([texts, state[f"{name}.padding_guidance"][0].expand(spare, -1)])
        normed, heads = self.norm(f"{name}.norm1", padded), self.config["nheads"]
        both = torch.cat([normed, guide.expand(len(normed), -1, -1)], dim=-1)
        q, k = (parted(self.linear(f"{name}.attention.{part}", both), -1, (heads, -1)) for part in "qk")
        v = parted(self.linear(f"{name}.attention.v", normed), -1, (heads, -1))
        q, k, count = F.elu(q) + 1, F.elu(k) + 1, v.shape[1]
        memory = torch.einsum("nshd,nshv->nhdv", k, v / count)
        scale = 1 / (torch.einsum("nlhd,nhd->nlh", q, k.sum(1)) + 1e-6)
        mixed = torch.einsum("nlhd,nhdv,nlh->nlhv", q, memory, scale).flatten(2) * count
        padded = padded + mixed
        hidden = F.relu(self.linear(f"{name}.MLP.0", self.norm(f"{name}.norm2", padded)))
        padded = padded + self.linear(f"{name}.MLP.2", hidden)
        maps = parted(padded[:, : len(texts)], 0, tuple(pooled.shape[:2])).permute(2, 3, 0, 1)
        if pooling > 1:
            maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=True)
        return x + maps.permute(0, 2, 3, 1)

    def up(self, name: str, x: Tensor, guide: Tensor) -> Tensor:
        """Twice the size (T, C, Y, X) beside the guidance (G, 2Y, 2X)."""
        state = self.state
        x = F.conv_transpose2d(x, state[f"{name}.up.weight"], state[f"{name}.up.bias"], stride=2)
        x = torch.cat([x, guide.expand(len(x), -1, -1, -1)], dim=1)
        for conv, norm in (("0", "1"), ("3", "4")):
            x = F.conv2d(x, state[f"{name}.conv.double_conv.{conv}.weight"], padding=1)
            gain, bias = (state[f"{name}.conv.double_conv.{norm}.{part}"] for part in ("weight", "bias"))
            x = F.relu(F.group_norm(x, len(gain) // 16, gain, bias))
        return x

    def conv(self, name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], padding=self.padding(name))

    def padding(self, name: str) -> int:
        return self.state[f"{name}.weight"].shape[-1] // 2

    def __call__(self, drawn: dict[str, Tensor], pooling: int) -> dict[str, Tensor]:
        """Of one picture."""
        dense, texts = F.normalize(drawn["img_feats"][0], dim=0), F.normalize(drawn["text_feats"][0], dim=-1)
        corr = torch.einsum("cyx,tpc->ptyx", dense, texts)
        x = self.conv("conv1", corr.transpose(0, 1)).permute(0, 2, 3, 1)
        maps = F.relu(self.conv("guidance_projection.0", drawn["appearance_guidance_0"])).permute(0, 2, 3, 1)
        text = F.relu(self.linear("text_guidance_projection.0", F.normalize(drawn["text_feats"][0].mean(1), dim=-1)))
        ours = {"corr": corr[None]}
        for layer in range(self.config["num_layers"]):
            own = f"layers.{layer}.swin_block"
            guide = self.norm(f"{own}.guidance_norm", maps).expand(len(x), -1, -1, -1)
            for block, shift in ((1, 0), (2, self.config["window_size"] // 2)):
                x = self.swin(f"{own}.block_{block}", x, guide, shift=shift)
            ours[f"layer{layer}_spatial"] = x.permute(3, 0, 1, 2)[None]
            x = self.classes(f"layers.{layer}.attention", x, text, pooling)
            ours[f"layer{layer}_class"] = x.permute(3, 0, 1, 2)[None]
        x = x.permute(0, 3, 1, 2)
        for place in (0, 1):
            guide = F.relu(
                self.conv(f"decoder_guidance_projection.{place}.0", drawn[f"appearance_guidance_{place + 1}"])
            )
            x = self.up(f"decoder{place + 1}", x, guide[0])
        return {**ours, "logits": self.conv("head", x).transpose(0, 1)}


@pytest.mark.parametrize(
    ("told", "grid", "classes", "pooling"),
    [
        pytest.param({"window_size": 3, "num_layers": 1, "prompt_channel": 3}, (6, 9), 4, 3, id="oblong-many-prompts"),
        pytest.param({"window_size": 5, "num_layers": 3, "nheads": 2, "pad_len": 9}, (4, 4), 2, 2, id="window-beyond"),
        pytest.param({"window_size": 4, "num_layers": 2, "hidden_dim": 32, "pad_len": 3,
                      "text_guidance_proj_dim": 16, "appearance_guidance_proj_dim": 8,
                      "decoder_guidance_proj_dims": [8, 4]}, (8, 8), 3, 1, id="just-full"),
        pytest.param({"window_size": 2, "decoder_dims": [32, 16], "decoder_guidance_proj_dims": [8, 24]}, (4, 6), 1, 2,
                     id="one-class"),
    ],
)  # fmt: skip
def test_aggregators_of_other_sizes(
    tmp_path: Path, told: dict[str, Any], grid: tuple[int, int], classes: int, pooling: int
) -> None:
    manifest, _ = golden("catseg_v2_aggregator_topk")
    config: dict[str, Any] = {
        **manifest["config"], "pad_len": 0, "text_guidance_dim": 10, "appearance_guidance_dim": 12,
        "decoder_guidance_dims": [6, 5], "hidden_dim": 64, "pooling_size": [pooling, pooling],
        "feature_resolution": list(grid), **told,
    }  # fmt: skip
    shapes = {
        name: list(value.shape) for name, value in CostAggregator(aggregator_settings(config)).state_dict().items()
    }
    prefix, rule = manifest["official_prefix"], manifest["fill_rule"]
    params = [{"name": f"{prefix}{name}", "shape": shape} for name, shape in shapes.items() if "attn_mask" not in name]
    sizes = {
        "img_feats": [1, 10, *grid], "text_feats": [1, classes, config["prompt_channel"], 10],
        "appearance_guidance_0": [1, 12, *grid], "appearance_guidance_1": [1, 6, 2 * grid[0], 2 * grid[1]],
        "appearance_guidance_2": [1, 5, 4 * grid[0], 4 * grid[1]],
    }  # fmt: skip
    generator = np.random.default_rng(77)
    drawn = {
        name: torch.from_numpy(generator.standard_normal(shape).astype(np.float32)) for name, shape in sizes.items()
    }
    state = {name.removeprefix(prefix): value for name, value in fill_listed(params, rule).items()}
    arrays = {name: value.numpy() for name, value in Published(config, state)(drawn, pooling).items()}
    inputs = {"seed": 77, "order": [{"name": name, "shape": shape} for name, shape in sizes.items()]}
    counted = sum(int(np.prod(row["shape"])) for row in params)
    manifest |= {"config": config, "params": params, "inputs": inputs, "n_params": counted, "outputs": {}}
    report = passes(tmp_path, manifest, arrays)
    assert len(report.checks) == 3 + 2 * config["num_layers"]
    if pooling > 1:
        config["pooling_size"] = [1, 1]
        assert not check(tmp_path, manifest, arrays).passed


# --- Detic's cascade


def test_a_mask_head_of_fewer_convolutions(tmp_path: Path) -> None:
    """What depends on no mask stays as it is."""
    manifest, arrays = golden("detic_c2_cascade")
    manifest["params"] = [row for row in manifest["params"] if not re.search(r"mask_fcn[34]", row["name"])]
    kept = {name: value for name, value in arrays.items() if not name.startswith("mask_probs")}
    passes(tmp_path, manifest, kept)
    failed = [one.key for one in check(tmp_path, manifest, arrays).checks if not one.passed]
    assert failed == ["mask_probs_0", "mask_probs_1"]
