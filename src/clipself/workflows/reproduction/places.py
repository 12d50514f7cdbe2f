"""What lies where: the official data sets and the released weights, by name, and where to get each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A file or a folder, as its publishers lay it out.

    Attributes:
        paths: Where it may be, below `--data` or `--weights`; the first that is whole counts.
        source: Where to get it; of what was never released, why not.
        holds: For a folder, what must be in it -> how many files the official one has there; None for any number.
        training: Commands that make it, where it was never released.
        hours: What their publishers say the training takes; empty where they say nothing.
    """

    paths: tuple[str, ...]
    source: str
    holds: Mapping[str, int | None] = field(default_factory=dict)
    training: tuple[str, ...] = ()
    hours: str = ""


COCO: Final = "https://cocodataset.org, download page: "
FVIT_JSON: Final = "the Drive folder that F-ViT's README of https://github.com/wusize/CLIPSelf links to"

DATA: Final[Mapping[str, Place]] = {
    "coco-panoptic": Place(
        paths=("coco/annotations/panoptic_val2017.json",),
        source=f"{COCO}2017 Panoptic Train/Val annotations (821 MB)",
    ),
    "coco-panoptic-png": Place(
        paths=("coco/annotations/panoptic_val2017",), holds={".": 5000},
        source="panoptic_val2017.zip, which the archive of the panoptic annotations holds",
    ),
    "coco-val2017": Place(
        paths=("coco/val2017",), holds={".": 5000}, source=f"{COCO}2017 Val images (5,000, 1 GB)"
    ),
    "ov-coco": Place(
        paths=("coco/zero-shot/instances_val2017_all_2.json", "coco/annotations/instances_val2017.json"),
        source=f"{FVIT_JSON}; or {COCO}2017 Train/Val annotations (241 MB), which hold these 4,836 pictures too",
    ),
    "lvis-val": Place(
        paths=("lvis_v1/annotations/lvis_v1_val.json",),
        source="https://www.lvisdataset.org/dataset: LVIS v1, validation set (19,809 pictures of COCO's)",
    ),
    "lvis-images": Place(
        paths=("lvis_v1", "coco"), holds={"train2017": 118_287, "val2017": 5000},
        source=f"{COCO}2017 Train images (118,287, 18 GB) and Val images: LVIS's validation has pictures of both",
    ),
    "ade20k-150": Place(
        paths=("ADEChallengeData2016",), holds={"images/validation": 2000, "annotations/validation": 2000},
        source="http://sceneparsing.csail.mit.edu: ADEChallengeData2016.zip (0.9 GB)",
    ),
    "ade20k-847": Place(
        paths=("ADE20K_2021_17_01",), holds={"images/ADE/training": None, "images/ADE/validation": None},
        source="https://groups.csail.mit.edu/vision/datasets/ADE20K: ADE20K_2021_17_01 (full), for whom registers",
    ),
    "pascal-context-59": Place(
        paths=("VOCdevkit/VOC2010", "VOC2010"), holds={"JPEGImages": None, "trainval_merged.json": None},
        source="http://host.robots.ox.ac.uk/pascal/VOC/voc2010: VOCtrainval_03-May-2010.tar; and "
        "https://codalabuser.blob.core.windows.net/public/trainval_merged.json",
    ),
    "ade20k-panoptic": Place(
        paths=("ADEChallengeData2016/ade20k_panoptic_val.json",),
        source="made by prepare_ade20k_pan_seg.py of https://github.com/facebookresearch/Mask2Former from "
        "ADEChallengeData2016 and its annotations_instance",
    ),
    "ade20k-panoptic-png": Place(
        paths=("ADEChallengeData2016/ade20k_panoptic_val",), holds={".": 2000}, source="made by the same script"
    ),
    "ade20k-images": Place(
        paths=("ADEChallengeData2016/images/validation",), holds={".": 2000},
        source="http://sceneparsing.csail.mit.edu: ADEChallengeData2016.zip (0.9 GB)",
    ),
}  # fmt: skip
"""Name -> what lies below `--data`."""
