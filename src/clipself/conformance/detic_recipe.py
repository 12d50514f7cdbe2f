"""`detic_recipe`: how often each picture is drawn, how pictures are scaled and cut, and the learning rates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from clipself.conformance.check import Check
from clipself.conformance.dense_models import Arrays
from clipself.conformance.detic_losses import compare_all
from clipself.data.mixture import mixture_weights, repeat_factors
from clipself.data.scale_crop import scale_cut
from clipself.engine.config import RunConfig
from clipself.engine.run import rate_of
from clipself.engine.state import Phase

SAMPLERS: Final[Mapping[str, tuple[bool, bool]]] = {
    "rfs_none": (False, False),
    "rfs_box": (True, False),
    "rfs_image": (False, True),
    "rfs_both": (True, True),
}
"""Output -> whether images with boxes, and images with labels, repeat rare classes."""

LVIS: Final[Mapping[str, Any]] = {"schedule": "cosine-through", "exact_warmup": True}
COCO: Final[Mapping[str, Any]] = {
    "lr": 0.02, "schedule": "constant", "drop_steps": (60_000, 80_000), "exact_warmup": True, "warmup_steps": 1000,
    "warmup_start": 1e-3, "max_steps": 90_000,
}  # fmt: skip


def rates_of(released: str) -> RunConfig:
    """The learning rate of a released configuration, told by its file's name.

    First stages ("BoxSup") on LVIS warm up longer than second ones; Swin trunks learn at half the rate, twice as long.
    """
    if "OVCOCO" in released:
        return RunConfig(out=Path("nowhere"), **COCO)
    first = released.startswith("BoxSup")
    length: dict[str, Any] = {"warmup_steps": 10_000 if first else 1000, "warmup_start": 1e-4 if first else 1e-3}
    wide = "SwinB" in released
    return RunConfig(
        out=Path("nowhere"), lr=1e-4 if wide else 2e-4, max_steps=180_000 if wide else 90_000, **length, **LVIS
    )


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Every output whose name tells what it is."""
    ours: dict[str, Any] = {}
    for key in manifest["outputs"]:
        kind, _, name = key.partition("/")
        if kind == "sampler" and name in SAMPLERS:
            ours[key] = _weights(manifest["config"], arrays, *SAMPLERS[name]).numpy()
        elif kind == "lr":
            config = rates_of(str(manifest["outputs"][key]))
            rate = rate_of(config, Phase(start=0, end=config.max_steps or 1), 1)
            ours[key] = [rate(int(step)) for step in arrays["iterations"]]
        elif kind == "resize":
            ours[key] = [_resize(row) for row in arrays["resize_cases"]]
    return compare_all(ours, arrays, manifest)


def _weights(config: Mapping[str, Any], arrays: Arrays, repeat_boxes: bool, repeat_labels: bool) -> Tensor:
    factors = []
    for kind, repeat in (("box", repeat_boxes), ("image", repeat_labels)):
        ends = np.cumsum(arrays[f"{kind}_lengths"])[:-1]
        labels = [part.tolist() for part in np.split(arrays[f"{kind}_classes"], ends)]
        factors.append(repeat_factors(labels, threshold=config["repeat_threshold"] if repeat else 0.0))
    return torch.cat(mixture_weights(factors, config["dataset_ratio"]))


def _resize(row: Any) -> list[float]:
    """Scaled size, offset, scale, size of the cut, then where two points of the picture go."""
    height, width, side, jitter, down, right = map(float, row)
    numbers = scale_cut((int(height), int(width)), side=int(side), jitter=jitter, shares=(down, right))
    top, left = numbers.offset
    points = ((10.0, 20.0), (width - 5, height - 7))
    moved = [value for x, y in points for value in (x * numbers.scale - left, y * numbers.scale - top)]
    return [*numbers.scaled, *numbers.offset, numbers.scale, *numbers.cut, *moved]
