"""Settings of Detic's OV-COCO detectors."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from clipself.detection.config import DetectionTrainConfig
from clipself.detection.detectors.detic.settings import C4Settings, DeticSettings
from clipself.engine.fields import UNSET

COCO: Final[Mapping[str, Any]] = {
    "heads": "c4", "templates": "detic", "proposals_before": 6000, "proposals_after": 1000, "score_threshold": 0.05,
    "nms": 0.5, "max_detections": 100,
}  # fmt: skip


def ov_coco_detic_boxes() -> DetectionTrainConfig:
    """The first stage of Detic on OV-COCO: boxes of base classes alone (AP50 39.3, novel 1.3).

    SGD at .02 for 90,000 steps of 16 images, eight processes of two, a tenth of the rate from 60,000 and 80,000 on.
    Pass MSRA's ResNet-50 by Detectron2's names as `--detector.c4.trunk-weights`.
    Source: Detic (arXiv:2201.02605), Appendix, and its released configurations.
    """
    return DetectionTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, model="ViT-B-32", pretrained="openai", split="ov-coco",
        detector=DeticSettings(**COCO), scales=(1.0, 1.0), flip=0.5, max_steps=90_000, batch_size=2, optimizer="sgd",
        lr=0.02, momentum=0.9, weight_decay=1e-4, schedule="constant", drop_steps=(60_000, 80_000), warmup_steps=1000,
        exact_warmup=True, warmup_start=1e-3, clip_norm=None, workers=4,
    )  # fmt: skip


def ov_coco_detic() -> DetectionTrainConfig:
    """Detic on OV-COCO: the first stage goes on for as long with labels of images (AP50 44.7, novel 24.1).

    Pass the first stage as `--start-from`, and COCO's captions as `--image-labels` with their folder of pictures: the
    words of the 65 classes in them. Eight pictures of half the size in turns with two that have boxes. The captions
    themselves teach too with image_label_captions=1 (AP50 45.0, novel 27.8).
    """
    boxes = ov_coco_detic_boxes()
    assert isinstance(boxes.detector, DeticSettings)
    detector = replace(boxes.detector, c4=C4Settings(trunk_weights="random"))  # all of it comes from the first stage
    return replace(
        boxes, detector=detector, image_label_ratio=4.0, image_label_batch=8, image_label_scale=0.5,
        image_label_proposals=32, image_label_weight=0.1, image_label_caption_negatives=1.0,
    )  # fmt: skip


DETIC_RECIPES: Final[Mapping[str, Callable[[], DetectionTrainConfig]]] = {
    "ov-coco-detic": ov_coco_detic,
    "ov-coco-detic-boxes": ov_coco_detic_boxes,
}
