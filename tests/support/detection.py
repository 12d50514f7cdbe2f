"""Detectors of a few thousand parameters, and little data sets of coloured blocks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.text import make_vocabulary
from clipself.detection.detectors.table import DETECTORS, build_detector, make_settings
from clipself.detection.detectors.two_stage.model import TwoStage
from clipself.detection.detectors.two_stage.settings import TwoStageSettings
from clipself.engine.distributed import World
from clipself.engine.step import Step
from clipself.structures import DetectionBatch

NAMES = ("cat", "dog", "bird", "fish")
BASE = ("cat", "dog", "bird")
COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 230), (230, 210, 40))

PACKAGED = sorted(name for name, kind in DETECTORS.items() if kind.settings.__module__.startswith("clipself."))
"""Our own detectors; a toy that another test file has registered is not among them."""
TWO_STAGE = [name for name in PACKAGED if issubclass(DETECTORS[name].settings, TwoStageSettings)]
"""Those that score boxes of a region proposal network."""


def tiny_settings(method: str = "fvit", **changes: Any) -> TwoStageSettings:
    """A canvas of 64 px and channels enough to learn colours."""
    given: dict[str, Any] = {
        "image_size": 64, "pixels": "clip", "taps": (0, 1, 2, 3), "channels": 16, "norm": "group", "rpn_convs": 1,
        "box_convs": 1, "box_layers": 1, "box_width": 32, "rpn_samples": 64, "proposals_before": 100,
        "proposals_after": 50, "roi_samples": 32, "templates": "simple", "anchor_scale": 4.0, **changes,
    }  # fmt: skip
    settings = make_settings(method, **given)
    assert isinstance(settings, TwoStageSettings)
    return settings


def tiny_detector(*, names: Sequence[str] = NAMES, base: Sequence[str] = BASE, **changes: Any) -> TwoStage:
    """F-ViT on the tiny CLIP, patch 8."""
    settings = tiny_settings(**changes)
    clip = tiny_openai_clip(layers=4)
    vocabulary = make_vocabulary(clip, names, base=base, templates=settings.templates)
    detector = build_detector(clip, settings, vocabulary)
    assert isinstance(detector, TwoStage)
    return detector


def step_for(*batches: DetectionBatch, seed: int = 0, number: int = 0) -> Step:
    """The step of one process whose micro-batches these are."""
    images = sum(len(batch.names) for batch in batches)
    world = World(rank=0, size=1, device=torch.device("cpu"))
    return Step(number=number, seed=seed, totals={"images": torch.tensor(float(images))}, world=world)


def tiny_batch(
    boxes: Sequence[Sequence[Sequence[float]]], labels: Sequence[Sequence[int]], *, masks: bool = False, seed: int = 0
) -> DetectionBatch:
    """Noise with these boxes."""
    generator = torch.Generator().manual_seed(seed)
    truths = [torch.tensor(rows, dtype=torch.float32).reshape(-1, 4) for rows in boxes]
    filled = [torch.ones(len(rows), 64, 64, dtype=torch.bool) for rows in truths]
    return DetectionBatch(
        images_B3HW=torch.randn(len(boxes), 3, 64, 64, generator=generator),
        sizes=((64, 64),) * len(boxes),
        boxes=tuple(truths),
        labels=tuple(torch.tensor(rows, dtype=torch.long) for rows in labels),
        masks=tuple(filled) if masks else None,
        names=tuple(f"{place}.png" for place in range(len(boxes))),
    )


def write_blocks(folder: Path, count: int = 4, *, size: tuple[int, int] = (64, 64), most: int = 3) -> Path:
    """Pictures of coloured blocks, a class a colour, with a COCO file; returns the file."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = rng.integers(90, 120, (*size, 3))
        for place in range(1 + number % most):
            label = (number + place) % len(NAMES)
            width, height = (int(side) for side in rng.integers(14, 26, 2))
            left = int(rng.integers(0, size[1] // 2 - 13)) + (size[1] // 2) * (place % 2)
            top = int(rng.integers(0, size[0] // 2 - 13)) + (size[0] // 2) * (place // 2)
            right, bottom = min(size[1], left + width), min(size[0], top + height)
            pixels[top:bottom, left:right] = COLOURS[label]
            box = [left, top, right - left, bottom - top]
            polygon = [left, top, right, top, right, bottom, left, bottom]
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number + 1, "category_id": label + 1, "bbox": box,
                    "area": box[2] * box[3], "iscrowd": 0, "segmentation": [polygon],
                }
            )  # fmt: skip
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "pictures" / f"{number}.png")
        images.append({"id": number + 1, "file_name": f"{number}.png", "height": size[0], "width": size[1]})
    categories = [{"id": place, "name": name} for place, name in enumerate(NAMES, start=1)]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path
