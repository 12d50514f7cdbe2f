"""What the `cora_*` manifests tell alike: weights by released names, the small CLIP, the batch, the tolerances."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import clip_from_config
from clipself.conformance.check import Check, compare_told, tolerance_at
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.conformance.told import thin, words_of
from clipself.detection.detectors.cora.published import clip_state


def filled_state(manifest: Mapping[str, Any], arrays: Arrays) -> dict[str, Tensor]:
    """All tensors of a manifest by their released names: those of the rule, and those that are stored."""
    stored = {name: torch.from_numpy(arrays[name]) for name in manifest.get("stored_params", [])}
    return {**fill_manifest(manifest), **stored}


def clip_of(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> DenseCLIP:
    """The CLIP within a released state dict, at the sizes of a manifest."""
    vision = {"image_size": config["res"], "layers": list(config["layers"]), "width": config["width"]}
    text = {
        "context_length": 77, "vocab_size": 49408, "width": config["text_width"], "layers": config["text_layers"],
        "heads": max(1, config["text_width"] // 64),
    }  # fmt: skip
    model_cfg = {"embed_dim": config["embed"], "vision_cfg": vision, "text_cfg": text, "quick_gelu": True}
    return clip_from_config("small ResNet", model_cfg, clip_state(state), source="filled by rule")


def batch_of(arrays: Arrays) -> tuple[Tensor, list[tuple[int, int]]]:
    """Images, and height and width of each one's own pixels by the stored mask."""
    seen = arrays["mask"] == 0
    images = torch.from_numpy(arrays["image_int8"].astype(np.float32) / 32)
    return images, [(int(one[:, 0].sum()), int(one[0].sum())) for one in seen]


def by_image(arrays: Arrays, stem: str) -> list[Tensor]:
    """Arrays that are stored image by image."""
    count = sum(name.rpartition("_")[0] == stem and name.rpartition("_")[2].isdigit() for name in arrays)
    return [torch.from_numpy(arrays[f"{stem}_{index}"]) for index in range(count)]


def tolerance(manifest: Mapping[str, Any], key: str) -> dict[str, float]:
    """What a manifest allows at a key."""
    atol, rtol = tolerance_at(manifest, key)
    return {"atol": atol, "rtol": rtol}


def told_compare(
    manifest: Mapping[str, Any], arrays: Arrays, key: str, ours: Tensor, *, kind: str | None = None
) -> Check:
    """Our value under a key of a manifest against the stored array; whole numbers must be equal.

    Args:
        manifest: Which tells the tolerances.
        arrays: With the stored array.
        key: Of the array.
        ours: As it is stored.
        kind: Key of the tolerance where it is another.
    """
    theirs = np.asarray(arrays[key])
    stored = thin(ours.detach(), theirs.shape, words_of(manifest, key)).numpy()
    return compare_told(manifest, key, stored, theirs, default=1e-5, kind=kind or "")
