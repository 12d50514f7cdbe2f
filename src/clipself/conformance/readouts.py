"""`training_free_readouts`: the last-block variants of the training-free literature on one small tower."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import clip_from_config
from clipself.backbones.readouts import Heads, Mix, Readout, gaussian_window, mix_last_block, read_last_block
from clipself.backbones.trunk import Sequence
from clipself.choices import pick
from clipself.conformance.check import Check, compare, tolerance_of
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_listed

NAMED: Mapping[str, str] = {
    "vanilla": "qk",
    "MaskCLIP": "value",
    "SCLIP": "qq+kk",
    "ClearCLIP": "qq",
}
"""Name in the manifest -> our mix."""


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Builds the small tower, runs every stored variant and compares the projected tokens."""
    config = manifest["config"]
    clip = _build_tower(config, manifest["params"])
    trunk = clip.trunk
    trunk.resize_positions_by = "scale_factor"  # as these projects do
    sequence = trunk.forward_blocks(trunk.embed(torch.from_numpy(arrays["image"])), list(trunk.blocks)[:-1])
    atol, rtol = tolerance_of(manifest, default=2e-4)
    checks = []
    for key in (key for key in arrays if key not in ("image", "vfm_feats")):
        tokens = _variant(key, config, arrays)(clip, sequence)
        checks.append(compare(key, trunk.head(tokens).numpy(), arrays[key], atol=atol, rtol=rtol))
    return checks


def _build_tower(config: Mapping[str, Any], parameters: list[Mapping[str, Any]]) -> DenseCLIP:
    vision = {
        "image_size": config["pretrain_res"],
        "patch_size": config["patch"],
        "width": config["width"],
        "layers": config["layers"],
        "head_width": config["width"] // config["heads"],
    }
    text = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    model_cfg = {"embed_dim": config["output_dim"], "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    return clip_from_config("small tower", model_cfg, fill_listed(parameters), source="filled by rule")


Variant = Callable[[DenseCLIP, Sequence], Tensor]


def _variant(key: str, config: Mapping[str, Any], arrays: Arrays) -> Variant:
    """The computation that a key of the manifest names."""
    simple = {
        "clip_plain": Readout(mix="qk"),
        "sclip": Readout(mix="qq+kk"),
        "naclip": Readout(mix="kk+gauss", residual=False, feed_forward=False),
        "kk_reduced": Readout(mix="kk", residual=False, feed_forward=False),
    }
    for name, mix in NAMED.items():
        simple[f"residual_{name}"] = Readout(mix=mix)
        simple[f"noresidual_{name}"] = Readout(mix=mix, residual=False, feed_forward=False)
    if key in simple:
        return lambda clip, sequence: read_last_block(clip.trunk, sequence, readout=simple[key])
    mixes: dict[str, Mix] = {
        "neighbour_only_reduced": neighbours_only(std=config["gaussian_std"]),
        "proxyclip": proxy(arrays.get("vfm_feats"), beta=config["proxy_beta"], gamma=config["proxy_gamma"]),
    }
    chosen = pick(mixes, key, what="readout variant in the manifest")
    return lambda clip, sequence: mix_last_block(clip.trunk, sequence, chosen, residual=False, feed_forward=False)


def neighbours_only(*, std: float) -> Mix:
    """NACLIP's ablation: attention from distance alone, at the strength that queries and keys would have had."""

    def mix(heads: Heads, grid: tuple[int, int]) -> Tensor:
        query, key = heads("q"), heads("k")
        strength = (query.norm(dim=-1).mean(-1) * key.norm(dim=-1).mean(-1)).mean() * query.shape[-1] ** -0.5
        logits = strength * gaussian_window(grid, std=std).to(query)
        mixed: Tensor = logits.softmax(-1) @ heads("v")
        return mixed

    return mix


def proxy(features: NDArray[Any] | None, *, beta: float, gamma: float) -> Mix:
    """ProxyCLIP (arXiv:2408.04883): attention from another model's patch cosines, negatives cut off."""

    def mix(heads: Heads, grid: tuple[int, int]) -> Tensor:
        vision_BCyx = torch.from_numpy(np.asarray(features))
        unit = F.normalize(vision_BCyx.flatten(2), dim=1)
        cosine = unit.mT @ unit
        logits = (cosine - beta * cosine.mean()) * gamma
        attention = logits.masked_fill(logits < 0, float("-inf")).softmax(-1)
        value = heads("v")[:, :, 1:]
        maps = value.mT.reshape(value.shape[0] * value.shape[1], -1, *grid)
        resized = F.interpolate(maps, size=vision_BCyx.shape[-2:], mode="bilinear", align_corners=False)
        value = resized.flatten(2).mT.reshape(*value.shape[:2], -1, value.shape[-1])
        return attention[:, None] @ value

    return mix
