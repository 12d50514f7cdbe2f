"""Settings of detector training, published and our own.

A recipe gives everything but data and output; a caller replaces what differs.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from clipself.detection.config import DetectionTrainConfig
from clipself.detection.detectors.baron.settings import BaronSettings
from clipself.detection.detectors.cora.recipes import CORA_RECIPES
from clipself.detection.detectors.detic.cascade_recipes import CASCADE_RECIPES
from clipself.detection.detectors.detic.recipes import DETIC_RECIPES
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.detectors.fvit import FViTSettings
from clipself.detection.detectors.fvlm import FvlmSettings
from clipself.detection.detectors.ovdetr.settings import OvDetrSettings
from clipself.detection.detectors.owl.settings import OwlSettings
from clipself.detection.detectors.promptovd.settings import PromptOvdSettings
from clipself.detection.detectors.rovit.recipes import ROVIT_RECIPES
from clipself.detection.detectors.vild.settings import ViLDSettings
from clipself.engine.fields import UNSET
from clipself.engine.resolve import recipe

SMALL: Final[Mapping[str, Any]] = {
    "image_size": 320, "pixels": "clip", "taps": (1, 3, 4, 5), "channels": 64, "norm": "group", "rpn_convs": 1,
    "box_convs": 1, "box_width": 256, "rpn_samples": 128, "proposals_before": 300, "proposals_after": 150,
    "roi_samples": 64, "templates": "simple", "nms": 0.5,
}  # fmt: skip
"""Thin heads on the packaged small CLIP at 320 px."""


def small() -> DetectionTrainConfig:
    """The packaged small CLIP at 320 px with thin heads: minutes on one CPU core."""
    return DetectionTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET,
        detector=FViTSettings(**SMALL, clip_temperature=50.0, alpha=0.2, beta=0.8), scales=(0.8, 1.2), epochs=4,
        batch_size=4, lr=1e-3, schedule="cosine", weight_decay=0.05, warmup_steps=50,
    )  # fmt: skip


def small_fvlm() -> DetectionTrainConfig:
    """F-VLM's fusion and background on the small recipe."""
    return replace(small(), detector=FvlmSettings(**SMALL))


def small_vild() -> DetectionTrainConfig:
    """ViLD's distillation on the small recipe: the detector decides alone.

    Give a refined backbone the CLIP that it came from as `--detector.crops-by`.
    """
    return replace(small(), detector=ViLDSettings(**SMALL, distill_regions=4))


def small_baron() -> DetectionTrainConfig:
    """BARON-KD on the small recipe: four pseudo words, three bags an image; crops as for ViLD.

    The contrast of bags has a quarter of its weight: for as long as a short run lasts it is hardly better than chance.
    """
    return replace(small(), detector=BaronSettings(**SMALL, words=4, extra_weight=0.25))


def small_detic() -> DetectionTrainConfig:
    """Detic's classes on the small recipe: give it --image-labels, and it learns from these too."""
    return replace(small(), detector=DeticSettings(**SMALL, bias=-4.6))


def ov_coco_b16() -> DetectionTrainConfig:
    """F-ViT on OV-COCO with EVA-02 CLIP B/16: 640 px, 3 epochs at a constant rate, batch 64 over all processes.

    Source: CLIPSelf's released configurations; eight processes of eight images. Pass the refined backbone as `--model`.
    """
    return DetectionTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, model="EVA02-B-16", pretrained="merged2b_s8b_b131k",
        split="ov-coco", detector=FViTSettings(), scales=(0.1, 2.0), flip=0.5, epochs=3, batch_size=8, lr=1e-4,
        weight_decay=0.1, warmup_steps=250, warmup_start=1e-3, clip_norm=1.0, precision="fp16", workers=8,
    )  # fmt: skip


def ov_coco_l14() -> DetectionTrainConfig:
    """L/14 at 336 px pre-training: 896 px; the release notes that its second epoch is often the best."""
    return replace(
        ov_coco_b16(), model="EVA02-L-14-336", pretrained="merged2b_s6b_b61k",
        detector=FViTSettings(image_size=896, taps=(6, 10, 14, 23)),
    )  # fmt: skip


LVIS: Final[Mapping[str, Any]] = {
    "rpn_norm": True, "mask_convs": 4, "rescue_regions": True, "background_weight": 0.9, "clip_temperature": 50.0,
    "score_threshold": 0.0001, "nms": 0.5, "max_detections": 300,
}  # fmt: skip
"""F-ViT on OV-LVIS: masks, lower thresholds."""


def ov_lvis_b16() -> DetectionTrainConfig:
    """OV-LVIS: masks, 1024 px, 48 epochs with two drops, lower thresholds."""
    detector = FViTSettings(**LVIS, image_size=1024, beta=0.6)
    return replace(ov_coco_b16(), split="ov-lvis", detector=detector, epochs=48, drop_epochs=(32, 44))


def ov_lvis_l14() -> DetectionTrainConfig:
    """OV-LVIS with L/14 at 896 px; the authors note that a beta of .6 to .8 gives far higher APr."""
    l14 = ov_coco_l14()
    detector = FViTSettings(**LVIS, image_size=896, taps=(6, 10, 14, 23), beta=0.4)
    return replace(ov_lvis_b16(), model=l14.model, pretrained=l14.pretrained, detector=detector)


def ov_coco_fvlm_rn50() -> DetectionTrainConfig:
    """F-VLM (arXiv:2209.15639) on CLIP's RN50: its architecture and scoring, trained as F-ViT is.

    The authors train for 46,100 steps of 256 images by SGD on an accelerator pod; that schedule is not repeated here.
    """
    b16 = ov_coco_b16()
    detector = FvlmSettings(pixels="clip", image_size=1024, box_layers=1)
    return replace(b16, model="RN50", pretrained="openai", detector=detector)


def lvis_owl_b16() -> DetectionTrainConfig:
    """OWL-ViT B/16 on OV-LVIS: 768 px, 140k steps of 256 pictures, mosaics, every picture's gradient clipped to 1.

    Source: OWL-ViT (arXiv:2205.06230) and the released configuration, which names LVIS alone; eight processes of eight
    pictures, four times, are its 256. Pass the refined backbone as `--model`.
    """
    return DetectionTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, model="ViT-B-16", pretrained="openai", split="ov-lvis",
        detector=OwlSettings(), scales=(1.0, 1.0), mosaics=(0.4, 0.3, 0.3), flip=0.5, keep_empty=True,
        max_steps=140_000, batch_size=8, accumulate=4, lr=5e-5, schedule="cosine", warmup_steps=1000,
        weight_decay=0.0, clip_norm=None, clip_each=1.0, workers=8,
    )  # fmt: skip


def lvis_owl_b32() -> DetectionTrainConfig:
    """B/32: all else as B/16."""
    return replace(lvis_owl_b16(), model="ViT-B-32")


def lvis_owl_l14() -> DetectionTrainConfig:
    """L/14: 840 px, half as many steps at a lower rate."""
    detector = OwlSettings(image_size=840, text_lr_scale=0.1)
    return replace(lvis_owl_b16(), model="ViT-L-14", detector=detector, max_steps=70_000, lr=2e-5)


def small_owl() -> DetectionTrainConfig:
    """OWL-ViT's heads on the packaged small CLIP, whose image tower learns along slowly."""
    detector = OwlSettings(
        image_size=320, templates="simple", towers="image", image_lr_scale=0.1, layer_drop=0.0,
        crop_area=(0.6, 1.0), max_detections=100,
    )  # fmt: skip
    return replace(
        small(), detector=detector, scales=(1.0, 1.0), mosaics=(0.8, 0.2), epochs=8, lr=1e-3, weight_decay=0.0,
        clip_norm=None, clip_each=1.0,
    )  # fmt: skip


SMALL_DETR: Final[Mapping[str, Any]] = {
    "trunk": "clip", "taps": (1, 3, 5), "pixels": "clip", "image_size": 320, "channels": 128, "encoder_layers": 2,
    "decoder_layers": 3, "hidden": 256, "queries": 60, "dropout": 0.0, "templates": "simple",
}  # fmt: skip
"""A thin deformable transformer on the packaged small CLIP at 320 px."""


def small_ovdetr() -> DetectionTrainConfig:
    """OV-DETR on the packaged small CLIP, frozen: ten classes asked for at once, crops of up to 40 boxes a class."""
    detector = OvDetrSettings(
        **SMALL_DETR, most_conditions=12, least_conditions=10, crops_of_class=40, max_detections=100
    )
    return replace(small(), detector=detector, epochs=10, lr=5e-4, weight_decay=1e-4, clip_norm=0.5)


def small_promptovd() -> DetectionTrainConfig:
    """Our reading of PromptOVD on the packaged small CLIP, frozen."""
    return replace(small_ovdetr(), detector=PromptOvdSettings(**SMALL_DETR, prompts=20, rois=30, max_detections=100))


def ov_coco_promptovd() -> DetectionTrainConfig:
    """Our reading of PromptOVD (arXiv:2303.14386) on OV-COCO, with OV-DETR's schedule: no code or recipe is published.

    Pass torchvision's ResNet-50 as `--detector.trunk-weights`.
    """
    return replace(ov_coco_ovdetr(), model="ViT-B-16", detector=PromptOvdSettings())


def ov_coco_ovdetr() -> DetectionTrainConfig:
    """OV-DETR on OV-COCO as published: ResNet-50, 50 epochs with a drop after 40, batch 16 over all processes.

    Source: OV-DETR's released run script; eight processes of two images. Pass torchvision's ResNet-50 as
    `--detector.trunk-weights`. The published file of boxes holds pseudo boxes of novel classes besides.
    """
    return DetectionTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, model="ViT-B-32", pretrained="openai", split="ov-coco",
        detector=OvDetrSettings(text_share=0.75), flip=0.5, epochs=50, drop_epochs=(40,), batch_size=2, lr=2e-4,
        weight_decay=1e-4, warmup_steps=0, clip_norm=0.1, precision="fp32", workers=4,
    )  # fmt: skip


DETECT_RECIPES: Final[Mapping[str, Callable[[], DetectionTrainConfig]]] = {
    "small": small,
    "small-fvlm": small_fvlm,
    "small-vild": small_vild,
    "small-baron": small_baron,
    "small-detic": small_detic,
    "small-owl": small_owl,
    "small-ovdetr": small_ovdetr,
    "small-promptovd": small_promptovd,
    "ov-coco-b16": ov_coco_b16,
    "ov-coco-l14": ov_coco_l14,
    "ov-coco-fvlm-rn50": ov_coco_fvlm_rn50,
    "ov-coco-ovdetr": ov_coco_ovdetr,
    "ov-coco-promptovd": ov_coco_promptovd,
    "ov-lvis-b16": ov_lvis_b16,
    "ov-lvis-l14": ov_lvis_l14,
    "lvis-owl-b16": lvis_owl_b16,
    "lvis-owl-b32": lvis_owl_b32,
    "lvis-owl-l14": lvis_owl_l14,
    **CORA_RECIPES,
    **DETIC_RECIPES,
    **CASCADE_RECIPES,
    **ROVIT_RECIPES,
}


def detect_recipe(name: str, **changes: Any) -> DetectionTrainConfig:
    """A recipe by name with some settings replaced; `detector` may be a table of replacements.

    Raises:
        ValueError: There is no such recipe.
    """
    return recipe(DETECT_RECIPES, name, **changes)
