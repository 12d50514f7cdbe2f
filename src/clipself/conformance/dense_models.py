"""`eva02_clip_*` and `openai_vit_*`: dense map, RoI and mask pooling, global embedding."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import clip_from_state_dict
from clipself.conformance.check import Check, compare, compare_told
from clipself.conformance.filling import fill_manifest
from clipself.conformance.told import number_in
from clipself.ops.pooling import pool_boxes, pool_masks

Arrays = Mapping[str, NDArray[Any]]


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Fills the tower, feeds the manifest's random images and compares every stored array."""
    state = fill_manifest(manifest)
    released_by_openai = not manifest["model"].startswith("EVA")
    clip = clip_from_state_dict(manifest["model"], state, source="filled by rule", quick_gelu=released_by_openai)
    checks: list[Check] = []
    for size in manifest["sizes"]:
        stored = {name: arrays[f"{size['key']}/{name}"] for name in ("boxes", "masks")}
        drawn = draw_inputs(manifest, size, stored)
        ours = _run_size(clip, drawn)
        checks += [
            compare_told(manifest, f"{size['key']}/{name}", value, arrays[f"{size['key']}/{name}"], default=1e-5)
            for name, value in ours.items()
            if f"{size['key']}/{name}" in arrays
        ]
        checks += _check_draws(size, *drawn)
    return checks


def _check_draws(
    size: Mapping[str, Any], images: NDArray[Any], boxes: NDArray[Any], masks: NDArray[Any]
) -> list[Check]:
    """What a manifest states of its draws, so that a wrong generator is noticed where it happens."""
    ours = {
        "image_sum": images.sum(dtype=np.float64), "masks_true": masks.sum(),
        "min_box_side": (boxes[..., 2:] - boxes[..., :2]).min(initial=1.0),
    }  # fmt: skip
    return [
        compare(f"{size['key']}: {name}", value, size[name], atol=1e-6, rtol=1e-9)
        for name, value in ours.items()
        if name in size
    ]


@torch.no_grad()
def _run_size(clip: DenseCLIP, drawn: tuple[NDArray[Any], ...]) -> dict[str, NDArray[Any]]:
    images, boxes, masks = drawn
    tensor = torch.from_numpy(images)
    read = clip.read(tensor, dense=True, pooled=True)
    assert read.dense is not None
    assert read.pooled is not None
    dense = read.dense
    roi = pool_boxes(dense, [torch.from_numpy(one) for one in boxes])
    mask_pool = pool_masks(dense, [torch.from_numpy(one).float() for one in masks])
    return {
        "image_head": images.ravel()[:8],
        "boxes": boxes,
        "masks": masks,
        "dense": dense.numpy(),
        "roi": torch.nn.functional.normalize(roi, dim=-1).numpy(),
        "mask_pool": mask_pool.numpy(),
        "cls": read.pooled.numpy(),
    }


def draw_inputs(
    manifest: Mapping[str, Any], size: Mapping[str, Any], stored: Arrays
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Images, boxes and masks from one generator, in the manifest's order and at its constants.

    Args:
        manifest: Its seed and its words.
        size: Height, width and grid.
        stored: Boxes (B, r, 4) and masks (B, m, Y, X), whose counts hold.
    """
    words = manifest.get("input_rule", {}).get("order", "")
    narrow = number_in(words, r"hi-lo < ([0-9.]+)", default=0.05)
    lowest = number_in(words, r"min\(lo, ([0-9.]+)\)", default=0.94)
    wide = number_in(words, r"hi = lo \+ ([0-9.]+)", default=0.06)
    empty = number_in(words, r"\) > ([0-9.]+)", default=0.6)
    generator = np.random.default_rng(int(manifest["input_seed"]))
    count, regions, num_masks = *stored["boxes"].shape[:2], stored["masks"].shape[1]
    images = generator.standard_normal((count, 3, size["H"], size["W"])).astype(np.float32)
    corners = np.sort(generator.random((count, regions, 2, 2)), axis=2)
    low, high = corners[:, :, 0, :], corners[:, :, 1, :]
    thin = high - low < narrow
    low = np.where(thin, np.minimum(low, lowest), low)
    high = np.where(thin, low + wide, high)
    boxes = np.concatenate([low, high], axis=-1).astype(np.float32)
    return images, boxes, generator.random((count, num_masks, *size["grid"])) > empty
