"""What the reader of COCO-like files reads, leaves out with a word, and refuses."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.support.pictures import draw_pictures

from clipself.cli.main import main
from clipself.data.coco.instances import read_instances
from clipself.data.coco.panoptic import read_panoptic
from clipself.data.coco.rows import CocoImage, check_picture_size
from clipself.data.coco.segments import decode_segmentation
from clipself.data.coco.splits import split_classes
from clipself.data.detection import CocoDetection
from clipself.data.labelled import CocoInstances, open_labelled
from clipself.data.sources import CocoImages
from clipself.ops.run_lengths import encode_mask, expand_counts, fill_runs, read_run_lengths, run_bounds


def held() -> dict[str, Any]:
    """Two pictures of 40 x 60, three boxes of two classes."""
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 60} for n in (0, 1)],
        "annotations": [
            {"id": 5 + n, "image_id": n % 2, "category_id": 1 + n % 2, "bbox": [2, 3, 20, 10], "area": 200,
             "iscrowd": 0, "segmentation": [[2, 3, 22, 3, 22, 13, 2, 13]]}
            for n in range(3)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip


def write(folder: Path, value: Any, name: str = "a.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value))
    return path


def changed(*where: Any, to: Any) -> dict[str, Any]:
    value = held()
    here: Any = value
    for part in where[:-1]:
        here = here[part]
    here[where[-1]] = to
    return value


def row(field: str, to: Any) -> dict[str, Any]:
    """The file with another value in the second row."""
    return changed("annotations", 1, field, to=to)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (row("category_id", 7), r"annotations\[1\] \(id 6\): its category_id 7 is not listed .*1, 2.*1\.png"),
        (row("category_id", "2"), r"its category_id '2' is text, the ids that the file lists are not"),
        (row("category_id", None), r"its category_id absent or null is not listed"),
        (row("category_id", True), r"its category_id True is not listed"),
        (row("image_id", [1]), r'its "image_id" is \[1\], expected a number or text'),
        (row("image_id", "1"), r"its image_id '1' is text, the ids"),
        (row("bbox", [1, 2, 3]), r'its "bbox" is \[1, 2, 3\], expected \[x, y, width, height\]'),
        (row("bbox", [1, 2, "3", 4]), r"its \"bbox\" holds '3', expected four numbers"),
        (row("bbox", [1, 2, float("inf"), 4]), "is not finite or beyond any picture, picture 1.png"),
        (row("bbox", [1, 2, 1e9, 4]), "is not finite or beyond any picture"),
        (row("bbox", [9, 2, -3, 4]), "has swapped corners"),
        (row("iscrowd", "no"), "its \"iscrowd\" is 'no', expected 0 or 1"),
        (row("area", float("nan")), 'its "area" is nan, expected pixels'),
        (changed("annotations", 1, to="x"), r"annotations\[1\]: is 'x', expected an object"),
        (changed("annotations", to={}), r'"annotations" is a table of 0, expected a list'),
        (changed("images", 1, "id", to=None), r'images\[1\]: its "id" is absent or null'),
        (changed("images", 1, "id", to=0), r"images\[1\] \(id 0\): has the id of images\[0\], which is another file"),
        (changed("images", 1, "file_name", to=3), r'images\[1\] .*: its "file_name" is 3, expected text'),
        (changed("images", 1, "height", to=-4), r'images\[1\] .*: its "height" is -4, expected pixels'),
        (changed("categories", 1, "name", to=""), r"categories\[1\] .*: its \"name\" is '', expected text"),
        (changed("categories", 1, "name", to="cat"), r"the classes 1 and 2 are both named 'cat'; give them one id"),
        (changed("categories", 1, "id", to=1), r"'dog' has the id of 'cat'; each class needs its own"),
        (row("segmentation", [{"x": 1, "y": 2}]), 'its polygon holds objects such as {"x": ..., "y": ...}'),
        (row("segmentation", [[1, 2, 3, None, 5, 6]]), "its polygon holds absent or null"),
        (row("segmentation", [[1, 2, 3, 4, 5, 1e5]]), r"its polygon reaches from 1\.0 to 100000\.0, which is far"),
        (row("segmentation", [[1, 2, 3, 4, 5, 10**400]]), "its polygon reaches from 1 to 1000"),
        (row("bbox", [1, 2, 10**400, 4]), "is not finite or beyond any picture"),
        (row("segmentation", "x"), "its \"segmentation\" holds 'x', expected polygons or run lengths"),
        (row("segmentation", {"size": [24, 32], "counts": [0, 768]}), r"its mask is 24 x 32 .* picture 40 x 60"),
        (row("segmentation", {"size": [40, 60], "counts": [0, 768]}), "fill 768 pixels, its size .* has 2400"),
        (row("segmentation", {"size": [40, 60], "counts": []}), "its run lengths are empty or negative"),
        (row("segmentation", {"size": [40, 60], "counts": "zzzz"}), "compressed run lengths hold characters"),
        (row("segmentation", {"size": [9**9, 9**9], "counts": "0"}), 'its "size" is .*, expected'),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value)[:30],
)  # fmt: skip
def test_what_would_make_a_number_wrong_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_instances(write(tmp_path, value), masks=True)
    assert "a.json" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (row("bbox", [2, 3, 20, 0]), "1 boxes without width or height passed over (annotations[1], 1.png)"),
        (row("bbox", [60, 3, 20, 5]), "1 boxes outside their picture passed over (annotations[1], 1.png)"),
        (row("segmentation", [[4, 4, 34, 34]]), "1 polygons of fewer than three points"),
        (row("segmentation", [[4, 4, 34, 34, 9, 9, 1]]), "1 polygons of fewer than three points"),
        (row("segmentation", [[]]), "1 polygons of fewer than three points"),
        (row("image_id", 9), "1 rows of pictures that the file does not list left out (annotations[1])"),
        (row("bbox", None), "1 rows without a box have that of their mask (annotations[1])"),
        (changed("images", to=[*held()["images"], held()["images"][0]]), "1 pictures listed twice, counted once"),
        (changed("categories", to=[{"id": 0, "name": "pets"}, *({**row, "supercategory": "pets"} for row in
         held()["categories"])]), "1 group of other classes (supercategory), used by no row, is no class ('pets')"),
        (changed("categories", to=[*held()["categories"], {"id": 3, "name": "cat"}]), "1 classes of the name of"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value)[:30],
)  # fmt: skip
def test_what_can_be_left_out_is_counted_and_told(
    tmp_path: Path, value: Any, count: str, caplog: pytest.LogCaptureFixture
) -> None:
    draw_pictures(tmp_path, 2, size=(40, 60))
    for number in (0, 1):
        Image.new("RGB", (60, 40)).save(tmp_path / f"{number}.png")
    with caplog.at_level(logging.INFO):
        data = open_labelled(write(tmp_path, value), tmp_path)
    assert sum(count in line for line in caplog.messages) == 1
    regions = [data.read(index) for index in range(len(data))]
    assert {name for region in regions for name in (Path(region.name).name,)} <= {"0.png", "1.png"}
    assert data.class_names == ["cat", "dog"]


def test_ids_of_any_kind_come_out_as_they_went_in(tmp_path: Path) -> None:
    value = held()
    for row in value["images"]:
        row["id"] = f"picture {row['id']}"
    for row in value["annotations"]:
        row |= {"image_id": f"picture {row['image_id']}", "category_id": f"class {row['category_id']}"}
        del row["id"]
    for row in value["categories"]:
        row["id"] = f"class {row['id']}"
    table = read_instances(write(tmp_path, value))
    assert [image.id for image in table.images] == ["picture 0", "picture 1"]
    assert [one.id for one in table.categories] == ["class 1", "class 2"]
    assert table.image_N.tolist() == [0, 1, 0]


def test_names_with_backslashes_and_unknown_sizes(tmp_path: Path) -> None:
    value = held()
    value["images"][0] |= {"file_name": "train\\0.png", "height": 0, "width": None}
    table = read_instances(write(tmp_path, value))
    assert (table.images[0].file, table.images[0].size) == ("train/0.png", None)


def test_polygons_of_every_tool_are_one_mask() -> None:
    square = [2, 3, 22, 3, 22, 13, 2, 13]
    points = [[2, 3], [22, 3], [22, 13], [2, 13]]
    expected = decode_segmentation([square], (40, 60))
    assert int(expected.sum()) == 200
    for form in (square, points, [points], [[square]], [square, [1, 1]]):
        assert bool((decode_segmentation(form, (40, 60)) == expected).all()), form


def test_run_lengths_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width = (int(side) for side in rng.integers(1, 50, 2))
        mask = rng.random((height, width)) < rng.random() ** 2
        lengths, size = read_run_lengths(encode_mask(mask))
        assert size == (height, width)
        np.testing.assert_array_equal(fill_runs(lengths, size), mask)
        rows, cols = np.nonzero(mask)
        expected: Any = (cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1) if len(rows) else None
        assert run_bounds(lengths, size) == expected
    with pytest.raises(ValueError, match="a number beyond any picture"):
        expand_counts("o" * 30 + "0")


def test_a_picture_of_another_size_than_is_listed_is_refused(tmp_path: Path) -> None:
    for number in (0, 1):
        Image.new("RGB", (30, 20)).save(tmp_path / f"{number}.png")
    path = write(tmp_path, held())
    message = r"a\.json: images\[0\] 0\.png is listed as 40 x 60 pixels .*, the picture is 20 x 30"
    with pytest.raises(ValueError, match=message):
        CocoInstances(path, tmp_path).read(0)
    with pytest.raises(ValueError, match=message):
        CocoImages(path, tmp_path).boxes_xywh(0, size=(20, 30))
    with pytest.raises(ValueError, match=message):
        CocoDetection(path, tmp_path).check_size(0, (20, 30))


def test_boxes_in_shares_of_the_picture_are_refused(tmp_path: Path) -> None:
    value = held()
    for row in value["annotations"]:
        row["bbox"] = [0.1, 0.2, 0.5, 0.25]
    with pytest.raises(ValueError, match=r"all of its 3 boxes lie within the first pixel .* shares of it\?"):
        read_instances(write(tmp_path, value))


def test_boxes_that_look_like_corners_are_told(tmp_path: Path) -> None:
    value = held()
    for row, box in zip(value["annotations"], ([30, 10, 55, 30], [2, 3, 8, 9], [4, 5, 20, 30]), strict=True):
        row["bbox"] = box
    report = read_instances(write(tmp_path, value)).report.to_line()
    assert "1 boxes reach beyond their picture, and each box of the file" in report
    assert "are they corners (x0, y0, x1, y1)?" in report
    value["annotations"][1]["bbox"] = [20, 3, 8, 9]  # no corner: it would end ahead of its start
    assert "corners" not in read_instances(write(tmp_path, value)).report.to_line()


APART = "3 masks do not lie in their box"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.update(segmentation=[[v / 60 for v in row["segmentation"][0]]]), APART),
        (lambda row: row.update(segmentation=[[v / 2 for v in row["segmentation"][0]]]), APART),
        (lambda row: row.update(bbox=[12, 8, 20, 10]), APART),  # its centre
        (lambda row: row.update(segmentation=encode_mask(np.pad(np.ones((8, 8)) > 0, ((30, 2), (50, 2))))), APART),
        (lambda row: row.update(area=0), '3 rows whose "area" is none that a mask in their box has'),
        (lambda row: row.update(area=200 / 2400), '3 rows whose "area" is none that a mask in their box has'),
    ],
    ids=["shares", "half", "centres", "elsewhere", "no-areas", "shares-of-areas"],
)  # fmt: skip
def test_parts_of_a_row_that_contradict_each_other_are_told(change: Any, said: str, tmp_path: Path) -> None:
    value = held()
    value["annotations"][2]["bbox"] = [2, 3, 19, 10]  # no repetition
    for one in value["annotations"]:
        one["segmentation"] = [list(one["segmentation"][0])]
    assert not read_instances(write(tmp_path, value), masks=True).report.remarks
    for one in value["annotations"]:
        change(one)
    assert said in read_instances(write(tmp_path, value), masks=True).report.to_line()
    value["annotations"] = [{**one, "iscrowd": 1} for one in value["annotations"]]
    assert "masks do not lie" not in read_instances(write(tmp_path, value), masks=True).report.to_line()


def test_rows_marked_to_be_ignored_are_told_and_a_reading_without_classes_counts_none(tmp_path: Path) -> None:
    value = held()
    value["annotations"][0]["ignore"] = 1
    value["annotations"][1] |= {"ignore": 1, "iscrowd": 1}
    path = write(tmp_path, value)
    report = read_instances(path).report
    assert '1 rows marked "ignore" count as any other, as COCO\'s tool has it (annotations[0])' in report.to_line()
    assert (report.read["rows"], report.read["classes"]) == (3, 2)
    assert "classes" not in read_instances(path, classes=False).report.listed


@pytest.mark.parametrize("said", [{"attributes": {"rotation": 45.0}}, {"rotation": -30}])
def test_boxes_that_hold_a_rotation_are_told(said: dict[str, Any], tmp_path: Path) -> None:
    value = held()
    value["annotations"][0] |= said
    value["annotations"][1]["attributes"] = {"rotation": 0.0, "occluded": True}
    line = read_instances(write(tmp_path, value)).report.to_line()
    assert "1 boxes hold a rotation that COCO's have not; they are read unturned (annotations[0])" in line


def test_rows_that_repeat_an_earlier_one_are_told(tmp_path: Path) -> None:
    report = read_instances(write(tmp_path, held())).report
    assert "1 rows repeat an earlier one (same picture, class and box)" in report.to_line()
    assert report.read["rows"] == 3  # told, not left out: the official tools count them


def test_the_background_is_no_class_and_numbers_are_no_names(tmp_path: Path) -> None:
    value = held()
    value["annotations"] = value["annotations"][:2]
    named = read_instances(write(tmp_path, value))
    assert not named.report.remarks
    value["categories"].insert(0, {"id": 0, "name": "__background__"})
    table = read_instances(write(tmp_path, value))
    assert [one.name for one in table.categories] == ["cat", "dog"]
    assert "1 name of what is no thing, used by no row, is no class ('__background__')" in table.report.to_line()
    value["annotations"][0]["category_id"] = 0
    assert len(read_instances(write(tmp_path, value)).categories) == 3  # a class where a row is of it
    value["categories"] = [{"id": 0, "name": "class_0"}, {"id": 1, "name": "2"}, {"id": 2, "name": "7"}]
    assert "3 classes are numbered, not named" in read_instances(write(tmp_path, value)).report.to_line()
    value["categories"][1]["name"] = "cat"
    assert "numbered" not in read_instances(write(tmp_path, value)).report.to_line()


def test_a_picture_that_its_tag_turns_is_told() -> None:
    image = CocoImage(id=1, file="a.jpg", size=(40, 60), row=0)
    with pytest.raises(ValueError, match=r"listed as 40 x 60 .* the picture is 60 x 40; does its EXIF tag turn it"):
        check_picture_size(image, (60, 40), source="a.json")
    with pytest.raises(ValueError, match="was it resized after it was annotated"):
        check_picture_size(image, (20, 30), source="a.json")


def test_boxes_that_lie_elsewhere_altogether_are_refused(tmp_path: Path) -> None:
    value = held()
    for row in value["annotations"][:2]:
        row["bbox"] = [1000, 3, 20, 10]
    with pytest.raises(ValueError, match=r"2 of 3 boxes lie outside their picture, such as .*exchanged"):
        read_instances(write(tmp_path, value))
    value = held()
    for row in value["annotations"]:
        row["image_id"] = 99
    with pytest.raises(ValueError, match="none of its 3 rows belongs to one of its 2 pictures"):
        read_instances(write(tmp_path, value))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"images": [], "annotations": [{"caption": "a cat", "image_id": 1}]}, "a captions file"),
        ({"images": [], "annotations": [{"segments_info": [], "image_id": 1}]}, "a panoptic file"),
        ({"images": []}, "a list of images without annotations"),
        ({"_via_img_metadata": {}}, "a VIA project"),
        ([{"image_id": 1, "bbox": [1, 1, 2, 2], "score": 1}], "a list of results or proposals"),
        ([{"segmentation": []}], "a list of masks"),
        ({"a": 1}, 'no COCO file of any kind; it lacks "images" and "annotations"'),
        (7, "no COCO file of any kind"),
    ],
)
def test_another_kind_of_file_is_said(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"a.json is {said}.*; pass a COCO instances file"):
        read_instances(write(tmp_path, value))


def panoptic() -> dict[str, Any]:
    segments = [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 2}]
    return {
        "images": held()["images"],
        "annotations": [{"image_id": 0, "file_name": "0.png", "segments_info": segments}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "sky", "isthing": 0}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("where", "to", "message"),
    [
        (("segments_info", 1, "id"), 1, r"\(0\.png\): segments_info\[1\] has the id 1 of segments_info\[0\]"),
        (("segments_info", 1, "id"), 0, r"segments_info\[1\]: its \"id\" is 0, expected 1 to 16777215"),
        (("segments_info", 1, "category_id"), 9, r"segments_info\[1\]: its category_id 9 is not listed"),
        (("segments_info", 1), None, r"segments_info\[1\] is absent or null, expected an object"),
        (("segments_info",), None, r'its "segments_info" is absent or null, expected a list'),
        (("file_name",), None, r'its "file_name" is absent or null, expected that of its PNG'),
    ],
)
def test_segments_that_cannot_be_meant(tmp_path: Path, where: tuple[Any, ...], to: Any, message: str) -> None:
    value = panoptic()
    here: Any = value["annotations"][0]
    for part in where[:-1]:
        here = here[part]
    here[where[-1]] = to
    with pytest.raises(ValueError, match=message):
        read_panoptic(write(tmp_path, value))
    again = panoptic()
    again["annotations"] *= 2
    assert len(read_panoptic(write(tmp_path, again)).rows) == 1
    again["annotations"][1] = {**copy.deepcopy(again["annotations"][1]), "file_name": "other.png"}
    with pytest.raises(ValueError, match=r"labels 0\.png again, as annotations\[0\] does, and otherwise"):
        read_panoptic(write(tmp_path, again))


def test_published_splits_go_by_ids_and_names_together() -> None:
    with pytest.raises(ValueError, match=r"its class 1 is 'person', in the file it is 'bicycle'; pass base and novel"):
        split_classes([{"id": 1, "name": "bicycle"}, {"id": 3, "name": "car"}], split="ov-coco")
    with pytest.raises(ValueError, match=r"'person' is its class 1, in the file it is 1000"):
        split_classes([{"id": 1000, "name": "person"}, {"id": 3, "name": "car"}], split="ov-coco")
    with pytest.raises(ValueError, match="none of its classes is in the file"):
        split_classes([{"id": 900, "name": "thing"}], split="ov-coco")
    few = split_classes([{"id": 17, "name": "Cat"}, {"id": 3, "name": "car"}], split="ov-coco")
    assert (few.base, few.novel) == (["car"], ["Cat"])


def test_the_check_command_prints_the_report_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (0, 1):
        Image.new("RGB", (60, 40)).save(tmp_path / f"{number}.png")
    path = write(tmp_path, row("bbox", [2, 3, 20, 0]))
    assert main(["data", "check", str(path), "--images", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "pictures  2 of 2" in said
    assert "rows      2 of 3" in said
    assert "noticed: 1 boxes without width or height" in said
    assert main(["data", "check", str(write(tmp_path, row("category_id", 7)))]) == 2
    assert "category_id 7 is not listed" in capsys.readouterr().err
    Image.new("RGB", (61, 40)).save(tmp_path / "1.png")
    assert main(["data", "check", str(write(tmp_path, held())), "--images", str(tmp_path)]) == 2
    assert "1.png is listed as 40 x 60" in capsys.readouterr().err
