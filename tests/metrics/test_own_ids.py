"""AP is that of the official tools, whatever a file counts its rows by."""

import contextlib
import io
import logging
import random
from typing import Any

import numpy as np
import pytest
import torch

from clipself.metrics import coco_ap, lvis_ap


def world(seed: int, *, images: int = 12, classes: int = 4) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Boxes at random and detections near some of them, with scores that repeat; ids count from 1."""
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {
        "images": [
            {"id": number, "height": 100, "width": 120, "neg_category_ids": [1 + number % classes],
             "not_exhaustive_category_ids": [1 + (number + 1) % classes] if number % 3 else []}
            for number in range(1, images + 1)
        ],
        "annotations": [],
        "categories": [{"id": one, "name": f"c{one}", "frequency": "rcf"[one % 3]} for one in range(1, classes + 1)],
    }  # fmt: skip
    results = []
    for number in range(1, images + 1):
        for _ in range(int(rng.integers(1, 6))):
            box = [float(value) for value in (*rng.integers(0, 60, 2), *rng.integers(4, 50, 2))]
            category = int(rng.integers(1, classes + 1))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1, "image_id": number, "category_id": category, "bbox": box,
                    "area": box[2] * box[3], "iscrowd": int(rng.random() < 0.1),
                    "segmentation": [[box[0], box[1], box[0] + box[2], box[1], box[0] + box[2], box[1] + box[3]]],
                }
            )  # fmt: skip
            for _ in range(int(rng.integers(0, 3))):
                moved = [float(value) for value in np.asarray(box) + rng.integers(-4, 5, 4)]
                moved[2:] = [max(2.0, side) for side in moved[2:]]
                results.append(
                    {"image_id": number, "category_id": category, "bbox": moved, "score": float(rng.integers(1, 9)) / 9}
                )
    return truth, results


def official(truth: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """pycocotools' own ten minutes' worth: AP, AP50, AP75, APs, APm, APl."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        held = COCO()
        held.dataset = {"info": {}, **truth}
        held.createIndex()
        run = COCOeval(held, held.loadRes([dict(row) for row in results]), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float("nan") if value == -1 else float(value) for value in run.stats[:6]]


NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@pytest.mark.parametrize("seed", range(4))
def test_ids_as_the_official_tool_likes_them(seed: int) -> None:
    truth, results = world(seed)
    summary = coco_ap(truth, results).summary
    np.testing.assert_allclose([summary[name] for name in NAMES], official(truth, results), atol=1e-12)


def renamed(
    truth: dict[str, Any], results: list[dict[str, Any]], how: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same data under other ids."""
    rng = random.Random(3)

    def change(kind: str) -> Any:
        if how == "shifted":
            return lambda number: number + (10**6 if kind == "image" else 0) - (kind != "image")  # rows, classes from 0
        if how == "text":
            return lambda number: f"{kind}-{number:04d}"
        if how == "far":
            return lambda number: number * 10**12
        order = list(range(1, 2000))
        rng.shuffle(order)
        return lambda number: order[number - 1]

    image, category = change("image"), change("category")

    def row_id(number: int) -> dict[str, Any]:
        if how == "repeated":
            return {"id": 7}
        if how == "absent":
            return {}
        return {"id": change("row")(number)}

    lists = ("neg_category_ids", "not_exhaustive_category_ids")
    held = {
        "images": [
            {**row, "id": image(row["id"]),
             **{key: [category(one) for one in row[key]] for key in lists}}
            for row in truth["images"]
        ],
        "annotations": [
            {**{key: value for key, value in row.items() if key != "id"}, **row_id(row["id"]),
             "image_id": image(row["image_id"]), "category_id": category(row["category_id"])}
            for row in truth["annotations"]
        ],
        "categories": [{**row, "id": category(row["id"])} for row in truth["categories"]],
    }  # fmt: skip
    moved = [
        {**row, "image_id": image(row["image_id"]), "category_id": category(row["category_id"])} for row in results
    ]
    return held, moved


@pytest.mark.parametrize("how", ["shifted", "text", "far", "permuted", "repeated", "absent"])
def test_other_ids_give_the_same_numbers(how: str) -> None:
    truth, results = world(1)
    for place, row in enumerate(results):
        row["score"] = (place * 37 % 101) / 101  # distinct: among equal scores the order of images decides
    held, moved = renamed(truth, results, how)
    one, other = coco_ap(truth, results), coco_ap(held, moved)
    assert one.summary == pytest.approx(other.summary, nan_ok=True)
    assert list(one.ap_per_class.values()) == pytest.approx(
        [other.ap_per_class[row["id"]] for row in held["categories"]], nan_ok=True
    )
    assert lvis_ap(truth, results).summary == pytest.approx(lvis_ap(held, moved).summary, nan_ok=True)


@pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning")
@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_lvis_is_scored_as_the_lvis_package_does(seed: int, beyond: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lvis = pytest.importorskip("lvis")
    monkeypatch.setattr(np, "float", float, raising=False)  # lvis is older than numpy 1.20
    truth, results = world(seed, images=20)
    if beyond:  # of classes annotated in part: boxes across the border, outside, and without an area
        odd = ([-40.0, 30.0, 90.0, 90.0], [100.0, 80.0, 60.0, 60.0], [300.0, 5.0, 20.0, 9.0], [5.0, 5.0, 0.0, 9.0])
        results += [
            {"image_id": number, "category_id": 1 + (number + 1) % 4, "bbox": list(box), "score": 0.8 + place / 20}
            for number in range(1, 21) for place, box in enumerate(odd)
        ]  # fmt: skip
        flat = {"category_id": 2, "bbox": [7.0, 7.0, 12.0, 0.0], "area": 0.0, "segmentation": [[7, 7, 19, 7, 19, 7]]}
        truth["annotations"] += [{**flat, "id": 500 + number, "image_id": number} for number in range(1, 21, 3)]
    truth["annotations"] = [{**row, "iscrowd": 0} for row in truth["annotations"]]  # LVIS has no crowds
    present = {(row["image_id"], row["category_id"]) for row in truth["annotations"]}
    for image in truth["images"]:
        image["neg_category_ids"] = [one for one in image["neg_category_ids"] if (image["id"], one) not in present]
        image["not_exhaustive_category_ids"] = [
            one for one in image["not_exhaustive_category_ids"] if (image["id"], one) in present
        ]
    held = lvis.LVIS.__new__(lvis.LVIS)
    held.dataset = truth
    held.logger = logging.getLogger("lvis-test")
    held._create_index()
    found = lvis.LVISResults(held, [dict(row) for row in results])
    run = lvis.LVISEval(held, found, "bbox")
    run.run()
    expected = run.get_results()
    held_, moved = renamed(truth, results, "text")
    for own in (lvis_ap(truth, results).summary, lvis_ap(held_, moved).summary):
        for name in (*NAMES, "APr", "APc", "APf", "AR@300"):
            value = expected[name]
            if value == -1:
                assert own[name] != own[name]
            else:
                assert own[name] == pytest.approx(value, abs=1e-9), name


def test_rows_that_cannot_be_scored_are_named() -> None:
    truth, results = world(0)
    broken = [{**row, "category_id": 99} if place == 1 else row for place, row in enumerate(truth["annotations"])]
    with pytest.raises(ValueError, match=r"annotations\[1\] is of class 99, which the file does not list"):
        coco_ap({**truth, "annotations": broken}, results)
    with pytest.raises(ValueError, match=r"results\[0\] has the score nan, which cannot be ranked"):
        coco_ap(truth, [{**results[0], "score": float("nan")}, *results[1:]])


def test_an_area_that_is_not_given_is_that_of_box_or_mask() -> None:
    truth, results = world(2)
    bare = {**truth, "annotations": [{k: v for k, v in row.items() if k != "area"} for row in truth["annotations"]]}
    assert coco_ap(bare, results).summary == pytest.approx(coco_ap(truth, results).summary, nan_ok=True)
    from pycocotools import mask as coco_mask

    def area(row: dict[str, Any]) -> float:
        return float(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(row["segmentation"], 100, 120))))

    masked = {**truth, "annotations": [{**row, "area": area(row)} for row in truth["annotations"]]}
    found = [{"image_id": row["image_id"], "category_id": row["category_id"], "score": 0.5,
              "segmentation": coco_mask.merge(coco_mask.frPyObjects(row["segmentation"], 100, 120))}
             for row in truth["annotations"][::2]]  # fmt: skip
    one, other = (coco_ap(held, found, iou_type="segm").summary for held in (masked, bare))
    assert one == pytest.approx(other, nan_ok=True)


def test_boxes_of_arrays_and_tensors_are_scored_as_lists(caplog: pytest.LogCaptureFixture) -> None:
    truth, results = world(2)
    plain = coco_ap(truth, results).summary
    rows: list[dict[str, Any]] = [
        {**row, "image_id": np.int64(row["image_id"]), "bbox": np.array(row["bbox"]), "score": np.float64(row["score"])}
        for row in results
    ]
    tensors = [{**row, "bbox": torch.tensor(row["bbox"], dtype=torch.float64)} for row in results]
    assert coco_ap(truth, rows).summary == pytest.approx(plain, nan_ok=True)
    assert coco_ap(truth, tensors).summary == pytest.approx(plain, nan_ok=True)
    assert not caplog.records
    coco_ap(truth, [{**row, "category_id": str(row["category_id"])} for row in results])
    assert f"none of the {len(results)} results is of a class that the annotations list" in caplog.text


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (
            {"a": 1},
            r"results are a table of 1, expected a list of \{\"image_id\", \"category_id\", \"bbox\", \"score\"\}",
        ),
        (None, "results are absent or null, expected a list"),
        (["x"], r"results\[0\] is 'x', expected \{\"image_id\""),
        ([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}], r"results\[0\] is .*expected .*\"score\"\}"),
        ([{"image_id": 1, "category_id": 1, "score": 0.5}], r"results\[0\] is .*expected .*\"bbox\""),
        (
            [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2], "score": 0.5}],
            r"results\[0\] has the box \[1\.0, 1\.0, 2\.0\]",
        ),
        (
            [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, float("nan")], "score": 0.5}],
            r"results\[0\] has the box",
        ),
    ],
)
def test_a_result_that_cannot_be_scored_is_named(results: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        coco_ap(world(0)[0], results)
