"""What would make a score wrong without a word is refused by its row, or told."""

import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from clipself.metrics import coco_ap, lvis_ap, own_ids, scored_rows

SIZE = (48, 64)
BOXES = [(1, 1, [5, 5, 40, 40]), (1, 2, [30, 10, 20, 30]), (2, 1, [4, 4, 30, 30]), (3, 2, [10, 8, 24, 24])]


def make_truth(**image: Any) -> dict[str, Any]:
    """Four triangles in three pictures."""
    return {
        "images": [
            {"id": one, "file_name": f"{one}.png", "height": SIZE[0], "width": SIZE[1], **image} for one in (1, 2, 3)
        ],
        "annotations": [
            {"id": place, "image_id": picture, "category_id": category, "bbox": list(box), "area": box[2] * box[3] / 2,
             "iscrowd": 0, "segmentation": [[box[0], box[1], box[0] + box[2], box[1], box[0], box[1] + box[3]]]}
            for place, (picture, category, box) in enumerate(BOXES)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip


def perfect(truth: dict[str, Any], *, masks: bool = False) -> list[dict[str, Any]]:
    rows = [
        {**{key: row[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9} for row in truth["annotations"]
    ]
    if masks:
        for row, true in zip(rows, truth["annotations"], strict=True):
            row["segmentation"] = coco_mask.merge(coco_mask.frPyObjects(true["segmentation"], *SIZE))
    return copy.deepcopy(rows)


def changed(rows: list[dict[str, Any]], place: int, **fields: Any) -> list[dict[str, Any]]:
    return [{**row, **fields} if place in (number, -1) else row for number, row in enumerate(rows)]


def test_areas_of_masks_are_their_own_whether_there_are_boxes_or_not() -> None:
    truth = make_truth()
    cross = np.zeros(SIZE, dtype=np.uint8, order="F")
    cross[2, 2:62] = cross[2:46, 2] = 1  # 103 pixels, small; its box of 60 x 44 is of medium size
    wrong = {
        "image_id": 1,
        "category_id": 1,
        "bbox": [2, 2, 60, 44],
        "segmentation": coco_mask.encode(cross),
        "score": 0.95,
    }
    found = [*perfect(truth, masks=True), wrong]
    bare = [{key: value for key, value in row.items() if key != "bbox"} for row in found]
    with_boxes, without = (coco_ap(truth, rows, iou_type="segm").summary for rows in (found, bare))
    assert with_boxes == pytest.approx(without, nan_ok=True)
    assert without["APs"] < 1.0


@pytest.mark.parametrize("form", ["polygons", "one polygon", "counts", "bytes", "text"])
def test_masks_in_every_form_are_one_mask(form: str) -> None:
    truth = make_truth()
    found = perfect(truth, masks=True)
    for row, true in zip(found, truth["annotations"], strict=True):
        mask_HW = coco_mask.decode(row["segmentation"])
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask_HW.flatten(order="F"), [2]])))
        row["segmentation"] = {
            "polygons": true["segmentation"], "one polygon": true["segmentation"][0], "bytes": row["segmentation"],
            "counts": {"size": list(SIZE), "counts": np.diff(np.concatenate([[0], edges])).tolist()},
            "text": {"size": list(SIZE), "counts": row["segmentation"]["counts"].decode()},
        }[form]  # fmt: skip
    assert coco_ap(truth, found, iou_type="segm").summary["AP"] == pytest.approx(1.0)


def test_parts_of_two_points_beside_others_cover_nothing() -> None:
    truth = make_truth()
    results = perfect(truth, masks=True)
    truth["annotations"][0]["segmentation"].append([1.0, 2.0, 5.0, 6.0])
    assert coco_ap(truth, results, iou_type="segm").summary["AP"] == pytest.approx(1.0)
    truth["annotations"][0]["segmentation"] = [[1.0, 2.0, 5.0, 6.0]]
    with pytest.raises(ValueError, match=r"annotations\[0\] has the mask .* three points"):
        coco_ap(truth, results, iou_type="segm")


def test_masks_of_another_size_and_none_are_refused() -> None:
    truth, half = make_truth(), coco_mask.encode(np.ones((24, 32), dtype=np.uint8, order="F"))
    found = perfect(truth, masks=True)
    for rows, said in (
        (
            changed(found, 1, segmentation=half),
            r"results\[1\] has a mask of 24 x 32 pixels \(height x width\), .* 48 x 64",
        ),
        (
            changed(found, 1, segmentation=[[1, 1, 9, 9]]),
            r"results\[1\] has the mask .*expected run lengths or polygons",
        ),
        (changed(found, 1, segmentation={"size": [48, 64], "counts": [1, 2]}), r"results\[1\]: its run lengths fill 3"),
    ):
        with pytest.raises(ValueError, match=said):
            coco_ap(truth, rows, iou_type="segm")
    for fields, said in (
        ({"segmentation": half}, r"annotations\[2\] has a mask of 24 x 32"),
        ({"segmentation": []}, r"annotations\[2\] has the mask \[\], expected run lengths or polygons"),
    ):
        with pytest.raises(ValueError, match=said):
            coco_ap({**truth, "annotations": changed(truth["annotations"], 2, **fields)}, found, iou_type="segm")
    with pytest.raises(ValueError, match=r"annotations\[0\]: its image has the size \(None, None\); masks need it"):
        coco_ap(make_truth(height=None, width=None), found, iou_type="segm")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"score": "0.9"}, r"results\[1\] has the score '0.9', expected a number"),
        ({"bbox": [5, 5, -20, -20]}, r"results\[1\] has the box .* of negative width or height"),
        ({"bbox": "5 5 20 20"}, r"results\[1\] has the box '5 5 20 20'"),
        ({"image_id": [1]}, r"an id is \[1\], expected a number or text"),
        ({"image_id": 9}, "a result is for image 9, which the annotations do not list"),
        ({"image_id": "1"}, "a result is for image '1', which the annotations do not list"),
    ],
)
def test_results_that_cannot_be_scored(fields: dict[str, Any], said: str) -> None:
    truth = make_truth(neg_category_ids=[])
    for score in (coco_ap, lvis_ap):
        with pytest.raises(ValueError, match=said):
            score(truth, changed(perfect(truth), 1, **fields))


@pytest.mark.parametrize(
    ("part", "place", "fields", "said"),
    [
        ("annotations", 1, {"area": "400"}, r"annotations\[1\] has the \"area\" '400', expected pixels"),
        ("annotations", 1, {"area": float("nan")}, r"annotations\[1\] has the \"area\" nan"),
        ("annotations", 1, {"bbox": None}, r"annotations\[1\] has the \"bbox\" absent or null"),
        ("annotations", 1, {"bbox": [1, 2, -3, 4]}, r"annotations\[1\] has the \"bbox\" \[1, 2, -3, 4\]"),
        ("annotations", 1, {"iscrowd": "no"}, r"annotations\[1\] has the \"iscrowd\" 'no', expected 0 or 1"),
        ("annotations", 1, {"image_id": None}, r"annotations\[1\] is .* without an \"image_id\""),
        ("annotations", 1, {"category_id": "1"}, r"annotations\[1\] is of class '1', which the file does not list"),
        ("images", 1, {"id": 1}, r"images\[1\] '2.png' has the id of '1.png'; each needs its own"),
        ("images", 1, {"id": None}, r"images\[1\] is .* without an id"),
        (
            "images",
            1,
            {"neg_category_ids": ["1"]},
            r"images\[1\] has the class '1' in neg_category_ids, .* another type",
        ),
        ("categories", 1, {"id": 1}, r"categories\[1\] 'dog' has the id of 'cat'; each needs its own"),
    ],
)
def test_truth_that_cannot_be_meant(part: str, place: int, fields: dict[str, Any], said: str) -> None:
    truth = make_truth(neg_category_ids=[])
    for score in (coco_ap, lvis_ap):
        with pytest.raises(ValueError, match=said):
            score({**truth, part: changed(truth[part], place, **fields)}, perfect(truth))


def test_what_is_no_truth_and_no_comparison() -> None:
    truth = make_truth()
    with pytest.raises(ValueError, match=r"the truth is 'x\.json', expected a COCO instances file, read"):
        coco_ap("x.json", [])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="without a list of 'categories'"):
        coco_ap({"images": [], "annotations": []}, [])
    with pytest.raises(ValueError, match="unknown iou_type 'box'"):
        coco_ap(truth, [], iou_type="box")
    with pytest.raises(ValueError, match=r"the group 'novel' holds \['cat'\], no id of a class \(there are \[1, 2\]\)"):
        coco_ap(truth, perfect(truth), groups={"novel": ["cat"]})


def test_numbers_of_any_library_are_ids_and_scores() -> None:
    truth = make_truth()
    found = [{**row, "image_id": torch.tensor(row["image_id"]), "category_id": np.int32(row["category_id"]),
              "score": torch.tensor(0.9)} for row in perfect(truth)]  # fmt: skip
    assert coco_ap(truth, found).summary["AP"] == pytest.approx(1.0)
    assert lvis_ap(truth, found).summary["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda truth, found: found + found,
         "4 of 8 results repeat an earlier one (same picture, class, box and score)"),
        (lambda truth, found: truth["annotations"].extend(copy.deepcopy(truth["annotations"])) or found,
         "4 of 8 annotations repeat an earlier one (same picture, class and box), such as annotations[4]"),
        (lambda truth, found: [row.update(area=0) for row in truth["annotations"]] and found,
         '4 of 4 annotations have an "area" that their boxes cannot have, such as 0 of annotations[0]'),
        (lambda truth, found: [{**row, "category_id": row["category_id"] - 1} for row in found],
         "2 of the 4 results are of classes that the annotations do not list (there are [1, 2]), such as 0"),
        (lambda truth, found: [{**row, "bbox": [*row["bbox"][:2], row["bbox"][0] + row["bbox"][2],
                                                row["bbox"][1] + row["bbox"][3]]} for row in found],
         "2 of 4 results reach beyond their picture, and each is wider and higher than it is far in"),
    ],
    ids=["results-twice", "truth-twice", "areas", "classes-from-0", "corners"],
)  # fmt: skip
def test_what_may_not_be_meant_is_told(change: Any, said: str, caplog: pytest.LogCaptureFixture) -> None:
    truth = make_truth()
    found = perfect(truth)
    coco_ap(truth, found)
    assert not caplog.records
    coco_ap(truth, change(truth, found))
    assert said in caplog.text


@pytest.mark.parametrize("score", [coco_ap, lvis_ap])
def test_what_was_told_where_the_file_was_read_is_not_told_again(score: Any, caplog: pytest.LogCaptureFixture) -> None:
    truth = make_truth(neg_category_ids=[])
    truth["annotations"] += [{**row, "area": 0} for row in copy.deepcopy(truth["annotations"])]
    found = perfect(make_truth())
    told = score(truth, found, told=True)
    assert not caplog.records
    aloud = score(truth, found)
    assert told.summary == pytest.approx(aloud.summary, nan_ok=True)
    assert [record.getMessage()[:36] for record in caplog.records] == ["4 of 8 annotations repeat an earlier"]
    score(truth, found + found, told=True)  # results are new each time
    assert "4 of 8 results repeat an earlier one" in caplog.text


def test_rows_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where LVIS's rules come first."""
    seen: list[str] = []

    def counted(looks: Any) -> Any:
        def look(*rows: Any) -> Any:
            seen.append(looks.__name__)
            return looks(*rows)

        return look

    for module in (sys.modules[lvis_ap.__module__], own_ids):
        for name in ("check_truth", "check_results"):
            monkeypatch.setattr(module, name, counted(getattr(scored_rows, name)))
    truth = make_truth(neg_category_ids=[])
    assert lvis_ap(truth, perfect(truth)).summary["AP"] == pytest.approx(1.0)
    assert sorted(seen) == ["check_results", "check_truth"]


def test_shares_of_the_picture_are_refused_and_lists_of_lvis_are_missed(caplog: pytest.LogCaptureFixture) -> None:
    truth = make_truth()
    shares = [{**row, "bbox": [value / 64 for value in row["bbox"]]} for row in perfect(truth)]
    with pytest.raises(ValueError, match="all of the 4 boxes of the results lie within the first pixel"):
        coco_ap(truth, shares)
    lvis_ap(make_truth(neg_category_ids=[]), perfect(truth))
    assert not caplog.records
    lvis_ap(truth, perfect(truth))
    assert 'no image lists "neg_category_ids"' in caplog.text
