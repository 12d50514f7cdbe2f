"""Settings of CORA's trainings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from clipself.detection.config import DetectionTrainConfig
from clipself.detection.detectors.cora.settings import CoraSettings
from clipself.engine.fields import UNSET


def small_cora() -> DetectionTrainConfig:
    """CORA on the packaged small CLIP, whose regions are read from the dense map: a narrow localiser at 320 px."""
    detector = CoraSettings(
        templates="simple", short_side=240, longest_side=320, short_sides=(200, 240, 280), crop=0.0, width=128,
        hidden=256, heads=4, encoder_layers=2, decoder_layers=3, dropout=0.0, queries=100, bottleneck=64,
    )  # fmt: skip
    return DetectionTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, detector=detector, scales=(1.0, 1.0), epochs=30, batch_size=4,
        lr=5e-4, schedule="cosine", weight_decay=1e-4, warmup_steps=50, clip_norm=0.1,
    )  # fmt: skip


def ov_coco_cora_rn50() -> DetectionTrainConfig:
    """CORA (arXiv:2303.13076) on OV-COCO with CLIP's RN50: 35 epochs at a constant rate, 8 processes of 4 images.

    Pass the tuned prompt as `--detector.prompt` and the file that `detect relabel` wrote as `--annotations`.
    """
    return DetectionTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, model="RN50", pretrained="openai", split="ov-coco",
        keep_empty=True, detector=CoraSettings(), scales=(1.0, 1.0), flip=0.5, epochs=35, batch_size=4, lr=1e-4,
        weight_decay=1e-4, warmup_steps=0, clip_norm=0.1, ema=0.99996, precision="fp32", workers=8, seed=42,
    )  # fmt: skip


def ov_coco_cora_rn50x4() -> DetectionTrainConfig:
    """The same with CLIP's RN50x4; its regions have a grid of 18 and then 9 cells."""
    return replace(ov_coco_cora_rn50(), model="RN50x4")


CORA_RECIPES: Final[Mapping[str, Callable[[], DetectionTrainConfig]]] = {
    "small-cora": small_cora,
    "ov-coco-cora-rn50": ov_coco_cora_rn50,
    "ov-coco-cora-rn50x4": ov_coco_cora_rn50x4,
}
"""Recipes by name."""
