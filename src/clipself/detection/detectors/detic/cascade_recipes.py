"""Settings of Detic's OV-LVIS detectors: CenterNet proposals and a cascade."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from clipself.detection.config import DetectionTrainConfig
from clipself.detection.detectors.detic.cascade_settings import CascadeSettings, CenterNetSettings
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.engine.fields import UNSET

SMALL: Final[Mapping[str, Any]] = {
    "heads": "centernet", "image_size": 320, "pixels": "clip", "channels": 64, "roi_samples": 64, "templates": "simple",
    "nms": 0.5, "score_threshold": 0.01,
    "centernet": CenterNetSettings(convs=1, before=300, after=150, before_in_training=300, after_in_training=150),
    "cascade": CascadeSettings(trunk="clip", short_side=320, longest=320, width=256, mask_width=64),
}  # fmt: skip
"""Thin heads on the packaged small CLIP at 320 px."""

LVIS: Final[Mapping[str, Any]] = {
    "heads": "centernet", "mask_convs": 4, "federated_classes": 50, "templates": "detic", "score_threshold": 0.02,
    "nms": 0.5, "max_detections": 300,
}  # fmt: skip
"""What both released detectors have."""


def small_detic_centernet() -> DetectionTrainConfig:
    """Detic's proposals and cascade on the packaged small CLIP: minutes on a few CPU cores."""
    return DetectionTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, detector=DeticSettings(**SMALL), scales=(0.8, 1.2), epochs=4,
        batch_size=4, lr=1e-3, schedule="cosine", weight_decay=0.05, warmup_steps=50,
    )  # fmt: skip


def ov_lvis_detic_r50() -> DetectionTrainConfig:
    """Detic on OV-LVIS with a ResNet-50 of ImageNet-21k: 640 px, 90,000 steps of 64 images, eight processes of eight.

    This is the first stage, boxes and masks of base classes (mask AP 30.2, novel 16.4): AdamW at 2e-4, decay 1e-4 of
    all that learns, each number of a gradient cut at 1, cosine to 0, a ramp of 10,000 steps from 1e-4 of the rate, rare
    classes repeated from 0.1 % down. The second one begins with it (start_from) and is as long (32.4, novel 24.9): a
    ramp of 1,000 steps from 1e-3, and image_labels=PICTURES, those of ImageNet's 997 classes of LVIS at half the side,
    32 of them to 8 with boxes, in turns (the defaults).
    Pass the released network as `--detector.cascade.trunk-weights`.
    Source: Detic (arXiv:2201.02605), Sec. 5.1, and its released configurations.
    """
    return DetectionTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, model="ViT-B-32", pretrained="openai", split="ov-lvis",
        detector=DeticSettings(**LVIS), scales=(0.1, 2.0), flip=0.5, max_steps=90_000, batch_size=8, lr=2e-4,
        schedule="cosine-through", weight_decay=1e-4, warmup_steps=10_000, exact_warmup=True, warmup_start=1e-4,
        clip_norm=None, clip_value=1.0, repeat_below=0.001, precision="fp16", workers=8,
    )  # fmt: skip


def ov_lvis_detic_swin_b() -> DetectionTrainConfig:
    """The same with Swin-B of ImageNet-22k: 896 px, 180,000 steps of 32 images at 1e-4 (38.4, novel 21.9).

    Its second stage (40.7, novel 33.8) is as long, 16 images with labels of 448 px to 4 with boxes.
    """
    detector = DeticSettings(**LVIS, image_size=896, cascade=CascadeSettings(trunk="swin_b"))
    return replace(ov_lvis_detic_r50(), detector=detector, max_steps=180_000, batch_size=4, lr=1e-4)


CASCADE_RECIPES: Final[Mapping[str, Callable[[], DetectionTrainConfig]]] = {
    "small-detic-centernet": small_detic_centernet,
    "ov-lvis-detic-r50": ov_lvis_detic_r50,
    "ov-lvis-detic-swin-b": ov_lvis_detic_swin_b,
}
