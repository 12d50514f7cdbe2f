"""Settings of RO-ViT's detector and its relatives."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from clipself.detection.config import DetectionTrainConfig
from clipself.detection.detectors.rovit.settings import RoVitSettings
from clipself.engine.fields import UNSET

SMALL: Final[Mapping[str, Any]] = {
    "image_size": 320, "windows": 2, "channels": 64, "rpn_convs": 1, "box_convs": 1, "box_width": 256,
    "proposals_before": 300, "proposals_after": 150, "roi_samples": 64, "templates": "simple", "trunk_rate": 0.05,
    "clip_temperature": 50.0, "objectness_power": 1.0, "score_threshold": 0.001, "max_detections": 100,
}  # fmt: skip
"""Thin heads on the packaged small CLIP at 320 px, whose transformer learns slowly."""


def small_rovit() -> DetectionTrainConfig:
    """RO-ViT's detector on the packaged small CLIP, whose transformer learns: minutes on one CPU core."""
    return DetectionTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, detector=RoVitSettings(**SMALL), scales=(0.8, 1.2), epochs=4,
        batch_size=4, lr=1e-3, schedule="cosine", weight_decay=0.05, warmup_steps=50,
    )  # fmt: skip


def small_cfm() -> DetectionTrainConfig:
    """CFM-ViT's on it: a frozen twin is the second opinion."""
    return replace(small_rovit(), detector=RoVitSettings(**SMALL, twin=True))


def ov_coco_rovit() -> DetectionTrainConfig:
    """DITO's released constants on OV-COCO, on a CLIP's own ViT-B/16: 46,100 steps of 256 images, eight processes.

    The authors' detectors stand on transformers of their own pre-training, which `clipself pretrain` repeats; pass its
    folder, or a refined CLIP, as `--model`. One small batch wants a rate of 0.02, as their example has it.
    """
    return DetectionTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, model="ViT-B-16", pretrained="laion2b_s34b_b88k", split="ov-coco",
        detector=RoVitSettings(), scales=(0.1, 2.0), flip=0.5, max_steps=46_100, batch_size=32, optimizer="sgd",
        lr=0.18, momentum=0.9, schedule="constant", drop_steps=(36_880, 41_490, 43_795), weight_decay=1e-4,
        warmup_steps=1000, exact_warmup=True, warmup_start=0.0032 / 0.18, clip_norm=None, precision="bf16", workers=8,
    )  # fmt: skip


def ov_coco_cfm() -> DetectionTrainConfig:
    """CFM-ViT: the same with a frozen twin for the second opinion."""
    return replace(ov_coco_rovit(), detector=RoVitSettings(twin=True))


def ov_coco_dito_l16() -> DetectionTrainConfig:
    """DITO's own: a plain ViT-L/16 with a shifted pass, a frozen twin, regions shrunk for it, CLIP's mean around.

    It starts from the released backbone (`--detector.trunk-weights`). The CLIP beside it lends its texts, which must be
    as wide; those that the backbone was trained beside cannot be read here, see the page of this system.
    """
    detector = RoVitSettings(vit="plain", shift=8, twin=True, shrink=0.7, padding="mean")
    return replace(ov_coco_rovit(), model="ViT-H-14", pretrained="laion2b_s32b_b79k", detector=detector)


ROVIT_RECIPES: Final[Mapping[str, Callable[[], DetectionTrainConfig]]] = {
    "small-rovit": small_rovit,
    "small-cfm": small_cfm,
    "ov-coco-rovit": ov_coco_rovit,
    "ov-coco-cfm": ov_coco_cfm,
    "ov-coco-dito-l16": ov_coco_dito_l16,
}
"""What `detection/recipes.py` takes over."""
