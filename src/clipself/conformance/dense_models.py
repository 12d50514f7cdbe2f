"""`eva02_clip_*` and `openai_vit_*`: dense map, RoI and mask pooling, global embedding."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipself.backbones.loading import clip_from_state_dict
from clipself.conformance.check import Check, compare, tolerance_of
from clipself.conformance.filling import fill_listed
from clipself.ops.pooling import pool_boxes, pool_masks

Arrays = Mapping[str, NDArray[Any]]


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Fills the tower, feeds the manifest's random images and compares every stored array."""
    state = fill_listed(manifest["parameters"])
    released_by_openai = not manifest["model"].startswith("EVA")
    clip = clip_from_state_dict(manifest["model"], state, source="filled by rule", quick_gelu=released_by_openai)
    atol, rtol = tolerance_of(manifest, default=1e-5)
    checks: list[Check] = []
    for size in manifest["sizes"]:
        ours = _run_size(clip, size, int(manifest["input_seed"]))
        checks += [
            compare(f"{size['key']}/{name}", value, arrays[f"{size['key']}/{name}"], atol=atol, rtol=rtol)
            for name, value in ours.items()
            if f"{size['key']}/{name}" in arrays
        ]
    return checks


@torch.no_grad()
def _run_size(clip: Any, size: Mapping[str, Any], seed: int) -> dict[str, NDArray[Any]]:
    images, boxes, masks = _draw_inputs(size, seed)
    tensor = torch.from_numpy(images)
    read = clip.read(tensor, dense=True, pooled=True)
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


def _draw_inputs(size: Mapping[str, Any], seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Images, boxes and masks from one generator, in the manifest's order."""
    generator = np.random.default_rng(seed)
    images = generator.standard_normal((2, 3, size["H"], size["W"])).astype(np.float32)
    corners = np.sort(generator.random((2, 5, 2, 2)), axis=2)
    low, high = corners[:, :, 0, :], corners[:, :, 1, :]
    thin = high - low < 0.05
    low = np.where(thin, np.minimum(low, 0.94), low)
    high = np.where(thin, low + 0.06, high)
    boxes = np.concatenate([low, high], axis=-1).astype(np.float32)
    masks = generator.random((2, 3, *size["grid"])) > 0.6
    return images, boxes, masks
