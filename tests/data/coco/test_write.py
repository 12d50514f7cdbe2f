"""Results as COCO's and other tools take them, against those tools themselves."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import clipself
from clipself.data.coco.write import category_rows, image_row, result_rows, segment_rows
from clipself.detection import results as detection
from clipself.ops.masks import boxes_around
from clipself.panoptic import results as panoptic
from clipself.panoptic.to_maps import Instances
from clipself.segmentation import results as segmentation
from clipself.structures import Detections, Panoptic, PanopticSegment, Segmentation
from clipself.structures.other_tools import to_mask_pipeline, to_supervision

LABELS = torch.tensor([[2, 2, 2, 0], [2, 0, 2, 0], [2, 2, 2, 1]])
NAMES = ("cat", "dog", "grass")
MASKS = torch.eq(torch.arange(3)[:, None, None], LABELS)
SCORES = (0.123456, 0.5, 1 / 3)
FOUND: dict[str, Any] = {
    "detections": Detections.from_masks(MASKS, labels=range(3), scores=SCORES, names=NAMES, size=(3, 4)),
    "instances": Instances(
        masks_NHW=MASKS, labels_N=torch.arange(3), scores_N=torch.tensor(SCORES, dtype=torch.float64),
        boxes=boxes_around(MASKS), size=(3, 4),
    ),
    "segmentation": Segmentation(
        labels_HW=LABELS, names=NAMES, scores_HW=torch.tensor(SCORES, dtype=torch.float64)[LABELS]
    ),
}  # fmt: skip
MAP = Panoptic(
    ids_HW=LABELS.int() + 70000, names=NAMES,
    segments=tuple(PanopticSegment(id=70000 + one, label=one, is_thing=one < 2, score=SCORES[one]) for one in range(3)),
)  # fmt: skip
ROOMS: dict[str, Any] = {"detections": detection, "instances": panoptic, "segmentation": segmentation}


@pytest.mark.parametrize("kind", FOUND)
@pytest.mark.parametrize("ids", [None, [7, 9, 5], [0, 1, 2]], ids=["from-one", "own", "from-zero"])
def test_every_family_writes_rows_that_cocos_tool_loads(kind: str, ids: list[int] | None, tmp_path: Path) -> None:
    rows = ROOMS[kind].to_coco(FOUND[kind], image_id=0, category_ids=ids)
    held = {"images": [image_row(0, "a.jpg", (3, 4))], "annotations": [], "categories": category_rows(NAMES, ids=ids)}
    (tmp_path / "truth.json").write_text(json.dumps(held))
    loaded = COCO(str(tmp_path / "truth.json")).loadRes(json.loads(json.dumps(rows)))
    by_class = {row["category_id"]: row for row in loaded.dataset["annotations"]}
    for label, score in enumerate(SCORES):
        row = by_class[(ids or [1, 2, 3])[label]]
        assert np.array_equal(coco_mask.decode(row["segmentation"]), MASKS[label].numpy())
        assert list(row["bbox"]) == coco_mask.toBbox(row["segmentation"]).tolist()
        assert (row["score"], row["image_id"]) == (round(score, 6), 0)
    assert all(("bbox" in row) == (kind != "segmentation") for row in rows)  # stuff has no boxes


def test_ids_of_any_kind_come_out_as_they_went_in() -> None:
    rows = result_rows(FOUND["detections"], image_id="x/1", category_ids=["c", "d", "g"])
    assert [(row["image_id"], row["category_id"]) for row in rows] == [("x/1", "c"), ("x/1", "d"), ("x/1", "g")]
    categories = category_rows(NAMES, ids=["c", "d", "g"], is_thing=[True, True, False])
    infos = segment_rows(MAP, categories=categories)
    assert [(row["id"], row["category_id"], row["isthing"]) for row in infos] == [
        (70000, "c", 1), (70001, "d", 1), (70002, "g", 0)
    ]  # fmt: skip
    for row, mask in zip(infos, MASKS, strict=True):
        encoded = coco_mask.encode(np.asfortranarray(mask.numpy(), dtype=np.uint8))
        assert (row["area"], row["bbox"]) == (int(coco_mask.area(encoded)), coco_mask.toBbox(encoded).tolist())


@pytest.mark.parametrize("found", [FOUND["segmentation"], MAP], ids=["segmentation", "panoptic"])
def test_masks_go_to_transformers_and_supervision_as_they_are(found: Any) -> None:
    room: Any = segmentation if isinstance(found, Segmentation) else panoptic
    rows = room.to_pipeline(found)
    assert {row["label"]: row["score"] for row in rows} == pytest.approx(dict(zip(NAMES, SCORES, strict=True)))
    for row in rows:
        assert np.array_equal(np.asarray(row["mask"]), 255 * MASKS[NAMES.index(row["label"])].numpy())
    supervision = pytest.importorskip("supervision")
    held = room.to_supervision(found)
    assert isinstance(held, supervision.Detections)
    inside = supervision.mask_to_xyxy(held.mask)  # its far corner is the last pixel
    assert held.xyxy.tolist() == (inside + np.array([0, 0, 1, 1])).tolist()
    for mask, label in zip(held.mask, held.class_id, strict=True):
        assert np.array_equal(mask, MASKS[label].numpy())


def test_nothing_found_has_forms_too() -> None:
    nothing = Detections.from_masks([], labels=[], scores=[], names=NAMES, size=(3, 4))
    assert (result_rows(nothing, image_id=1), to_mask_pipeline(nothing)) == ([], [])
    with pytest.raises(ValueError, match="these detections have no masks"):
        to_mask_pipeline(Detections(boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0),
                                    names=NAMES, size=(3, 4)))  # fmt: skip
    pytest.importorskip("supervision")
    assert to_supervision(nothing).mask.shape == (0, 3, 4)


def test_ids_become_colours_in_one_place_and_come_back_in_one() -> None:
    """R + 256 G + 65536 B."""
    source = Path(clipself.__file__).parent
    spelled = [
        path.name for path in source.rglob("*.py") if re.search(r"\b(// ?|\* ?)65536\b|\b65536 \*", path.read_text())
    ]
    assert spelled == ["maps.py"]
