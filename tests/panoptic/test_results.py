"""Results in the forms of other tools, against what those tools say themselves."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from clipself.panoptic.results import to_coco, to_detections, to_pipeline, to_supervision, to_transformers
from clipself.panoptic.to_maps import Instances
from clipself.structures import Panoptic, PanopticSegment

IDS = torch.tensor([[0, 1, 1, 4], [0, 1, 1, 4]], dtype=torch.int32)
FOUND = Panoptic(
    ids_HW=IDS,
    segments=(
        PanopticSegment(id=1, label=1, is_thing=True, score=0.75),
        PanopticSegment(id=4, label=0, is_thing=False, score=0.5),
    ),
    names=("grass", "dog"),
)
NOTHING = Panoptic(ids_HW=torch.zeros(2, 3, dtype=torch.int32), segments=(), names=("dog",))


def test_segments_have_ids_of_their_own() -> None:
    twice = (PanopticSegment(id=1, label=0, is_thing=True, score=1.0),) * 2
    with pytest.raises(ValueError, match="own from 1 on"):
        Panoptic(ids_HW=IDS, segments=twice)
    with pytest.raises(ValueError, match="0 is void"):
        Panoptic(ids_HW=IDS, segments=(PanopticSegment(id=0, label=0, is_thing=True, score=1.0),))
    assert (len(FOUND), len(NOTHING)) == (2, 0)


def test_things_as_coco_results_and_detections() -> None:
    masks = torch.zeros(1, 4, 6, dtype=torch.bool)
    masks[0, 1:3, 2:5] = True
    found = Instances(
        masks_NHW=masks, labels_N=torch.tensor([1]), scores_N=torch.tensor([0.123456]),
        boxes=torch.tensor([[2.0, 1.0, 5.0, 3.0]]), size=(4, 6),
    )  # fmt: skip
    (row,) = to_coco(found, image_id="x", category_ids=[7, 9])
    assert (row["image_id"], row["category_id"], row["score"]) == ("x", 9, 0.123456)
    assert row["bbox"] == coco_mask.toBbox(row["segmentation"]).tolist() == [2.0, 1.0, 3.0, 2.0]
    assert np.array_equal(coco_mask.decode(row["segmentation"]), masks[0].numpy())
    assert to_coco(found, image_id=1)[0]["category_id"] == 2
    detections = to_detections(found, ["cat", "dog"])
    assert (detections.size, detections.names, len(detections)) == ((4, 6), ("cat", "dog"), 1)


def test_segments_as_transformers_has_them() -> None:
    held = to_transformers(FOUND)
    assert torch.equal(held["segmentation"], IDS)
    assert held["segments_info"][1] == {"id": 4, "label_id": 0, "was_fused": True, "score": 0.5}
    first, second = to_pipeline(FOUND)
    assert (first["label"], first["score"], second["label"]) == ("dog", 0.75, "grass")
    assert np.array_equal(np.asarray(first["mask"]), 255 * (IDS == 1).numpy())
    assert to_pipeline(NOTHING) == []


def test_segments_as_supervision_has_them() -> None:
    supervision = pytest.importorskip("supervision")
    held = to_supervision(FOUND)
    assert held.data["class_name"].tolist() == ["dog", "grass"]
    assert held.data["is_thing"].tolist() == [True, False]
    assert held.area.tolist() == [4, 2]
    inside = supervision.mask_to_xyxy(held.mask)  # its far corner is the last pixel
    assert held.xyxy.tolist() == (inside + np.array([0, 0, 1, 1])).tolist()
    assert len(to_supervision(NOTHING)) == 0
