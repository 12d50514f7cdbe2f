"""Labels of other tools as their exporters write them, read through the one door of `--annotations`."""

import base64
import cmath
import io
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clipself.data.coco.check import check_file
from clipself.data.coco.instances import Instances, read_instances
from clipself.data.detection import CocoDetection
from clipself.data.labelled import open_labelled

SIZE = (100, 200)
"""Width and height of the pictures."""


def pictures(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (90, 90, 90)).save(folder / name)
    return folder


def files(folder: Path, held: Mapping[str, str]) -> Path:
    for name, text in held.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def boxes(table: Instances) -> dict[str, list[tuple[str, list[float]]]]:
    """Picture -> (name, `xyxy`) of its rows."""
    found: dict[str, list[tuple[str, list[float]]]] = {image.file: [] for image in table.images}
    for image, category, (x, y, w, h) in zip(
        table.image_N.tolist(), table.category_N.tolist(), table.boxes_N4.tolist(), strict=True
    ):
        row = (table.categories[category].name, [round(value, 4) for value in (x, y, x + w, y + h)])
        found[table.images[image].file].append(row)
    return found


def remarks(table: Instances) -> list[str]:
    return [remark.what for remark in table.report.remarks]


def layout(folder: Path, *, images: str, labels: str, more: Mapping[str, str]) -> Path:
    pictures(folder, f"{images}a.png", f"{images}b.png")
    return files(folder, {f"{labels}a.txt": "1 0.5 0.5 0.2 0.1\n\n0 .25 .25 .5 .5 0.9\r\n", **more})


YOLO = [("dog", [40, 90, 60, 110]), ("cat", [0, 0, 50, 100])]


@pytest.mark.parametrize(
    ("images", "labels", "more", "source", "below"),
    [
        pytest.param("images/", "labels/", {"data.yaml": "train: images\nnames: [cat, dog]\nnc: 2"}, "data.yaml",
                     "images", id="ultralytics"),
        pytest.param("images/val/", "labels/val/", {"d.yml": "path: .\nval: images/val\nnames: {0: cat, 1: dog}"},
                     "d.yml", "images/val", id="numbered-names"),
        pytest.param("valid/images/", "valid/labels/", {"data.yaml": "val: ../valid/images\nnames: [cat, dog]"},
                     "data.yaml", "valid/images", id="roboflow"),
        pytest.param("obj_train_data/", "obj_train_data/", {"obj.names": "cat\ndog\n", "obj.data": "classes = 2",
                     "train.txt": "data/obj_train_data/a.png"}, "obj_train_data", "obj_train_data", id="darknet"),
        pytest.param("images/", "labels/", {"classes.txt": "cat\ndog"}, "labels", "images", id="label-studio"),
        pytest.param("images/", "labels/", {"classes.txt": "cat\ndog", "notes.json": "{}"}, ".", "images", id="root"),
        pytest.param("", "", {"classes.txt": "cat\ndog"}, ".", "", id="side-by-side"),
        pytest.param("photos/", "my/", {"my/classes.txt": "cat\ndog"}, "my", "photos", id="folders-of-other-names"),
    ],
)  # fmt: skip
def test_yolo_in_the_layouts_of_its_exporters(
    tmp_path: Path, images: str, labels: str, more: dict[str, str], source: str, below: str
) -> None:
    layout(tmp_path, images=images, labels=labels, more=more)
    table = read_instances(tmp_path / source, images=tmp_path / below)
    assert boxes(table) == {"a.png": YOLO, "b.png": []}
    assert remarks(table) == ["pictures without a label file hold no objects"]
    assert [one.size for one in table.images] == [(200, 100)] * 2
    assert table.report.kind == "instances, YOLO"
    if below != "photos":
        assert boxes(read_instances(tmp_path / source)) == boxes(table)
    assert len(CocoDetection(tmp_path / source, tmp_path / below, keep_empty=True)) == 2
    assert check_file(tmp_path / source, tmp_path / below).read["rows"] == 2


def test_a_part_of_yolo_is_chosen_by_its_pictures(tmp_path: Path) -> None:
    pictures(tmp_path, "images/train/a.png", "images/val/b.png", "images/val/c.png")
    files(tmp_path, {"data.yaml": "train: images/train\nval: [images/val]\nnames: [cat]", "labels/train/a.txt": "",
                     "labels/val/b.txt": "0 .5 .5 1 1", "labels/val/gone.txt": ""})  # fmt: skip
    table = read_instances(tmp_path / "data.yaml", images=tmp_path / "images/val")
    assert boxes(table) == {"b.png": [("cat", [0, 0, 100, 200])], "c.png": []}
    assert remarks(table)[-1] == "label files without a picture left out"
    assert [one.file for one in read_instances(tmp_path / "data.yaml").images] == [
        "train/a.png",
        "val/b.png",
        "val/c.png",
    ]
    assert len(read_instances(tmp_path / "data.yaml", images=tmp_path / "images").images) == 3


def test_a_label_file_of_yolo_is_found_in_either_form_of_unicode(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    pictures(tmp_path, f"images/{other}.png")
    files(tmp_path, {"data.yaml": "train: images\nnames: [cat]", f"labels/{one}.txt": "0 .5 .5 1 1"})
    table = read_instances(tmp_path / "data.yaml")
    assert boxes(table) == {f"{other}.png": [("cat", [0, 0, 100, 200])]}
    assert remarks(table) == []


def test_yolo_polygons_and_keypoints(tmp_path: Path) -> None:
    pictures(tmp_path, "images/a.png")
    files(tmp_path, {"data.yaml": "train: images\nnames: [cat]", "labels/a.txt": "0 .1 .1 .5 .1 .5 .3"})
    table = read_instances(tmp_path / "data.yaml", masks=True)
    assert boxes(table) == {"a.png": [("cat", [10, 20, 50, 60])]}
    assert table.segments is not None
    assert table.segments.polygons(0)[0].tolist() == pytest.approx([10, 20, 50, 20, 50, 60])
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\nkpt_shape: [2, 3]")
    (tmp_path / "labels/a.txt").write_text("0 .5 .5 .2 .1 .1 .1 2 .2 .2 1")
    assert boxes(read_instances(tmp_path / "data.yaml")) == {"a.png": [("cat", [40, 90, 60, 110])]}


def test_a_picture_that_lies_on_its_side_is_read_upright(tmp_path: Path) -> None:
    held = Image.new("RGB", (100, 200))
    exif = held.getexif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    held.save(tmp_path / "images/a.jpg", exif=exif)
    files(tmp_path, {"data.yaml": "train: images\nnames: [cat]", "labels/a.txt": "0 .5 .5 1 .5"})
    table = read_instances(tmp_path / "data.yaml", images=tmp_path / "images")
    assert table.images[0].size == (100, 200)
    assert boxes(table)["a.jpg"] == [("cat", [0, 25, 200, 75])]
    assert check_file(tmp_path / "data.yaml", tmp_path / "images").read["rows"] == 1


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("2 .5 .5 .1 .1", r"labels/a\.txt:2: its class is 2, but there are 2 names, counted from 0"),
        (
            "0 50 50 10 10",
            r"a\.txt:2: its values are not in \[0, 1\]; YOLO's are shares of the picture, are these pixels",
        ),
        ("0 .5 .5 .1", r"a\.txt:2 holds 4 values; a box has 5"),
        ("0 .5 .5 x .1", r"a\.txt:2: a value is 'x', expected a number"),
        ("0 .5 .5 nan .1", r"a\.txt:2: a value is 'nan', expected a number"),
        ("cat .5 .5 .1 .1", r"a\.txt:2: a value is 'cat', expected a number"),
    ],
)
def test_a_line_of_yolo_that_cannot_be_meant_is_named(tmp_path: Path, label: str, message: str) -> None:
    pictures(tmp_path, "images/a.png")
    files(tmp_path, {"data.yaml": "train: images\nnames: [cat, dog]", "labels/a.txt": f"0 .5 .5 .1 .1\n{label}\n"})
    with pytest.raises(ValueError, match=message):
        read_instances(tmp_path / "data.yaml")


@pytest.mark.parametrize(
    ("held", "source", "message"),
    [
        ({"data.yaml": "train: images\nnames: [cat]\nnc: 3"}, "data.yaml", r'"nc" is 3, but there are 1 names'),
        ({"data.yaml": "train: images\nnames: [cat, no]"}, "data.yaml", r"one of the .names. as False, no text; put"),
        ({"data.yaml": "train: images\nnames: [null]"}, "data.yaml", r"reads one of the .names. as None, no text; put"),
        ({"data.yaml": "train: images\nnames: {1: cat}"}, "data.yaml", r"numbered \[1\] ..., expected 0 to 0"),
        ({"data.yaml": "names: [a\n"}, "data.yaml", "is not YAML"),
        ({"data.yaml": "a: 1"}, "data.yaml", 'holds no "names"'),
        ({"data.yaml": "train: gone\nnames: [cat]"}, "data.yaml", r"no pictures of .* are there \(it names .*gone\)"),
        ({"data.yaml": "train: images\nnames: [cat]"}, "data.yaml", "none of 1 pictures of .* has a label file"),
        ({"images/a.txt": "0 .5 .5 1 1"}, "images", "has label files but no list of classes; put data.yaml"),
        ({"r.zip": "PK"}, "r.zip", r"r\.zip is an archive; unpack it and pass the JSON in it"),
        ({"tf.csv": "filename,class,xmin\n"}, "tf.csv", r"tf\.csv is a table of some tool; convert it to COCO's JSON"),
        ({"c.ndjson": "{}\n{}\n"}, "c.ndjson", "is a JSON object a line; join them to COCO's JSON"),
        ({"rf/_annotations.coco.json": "{}"}, "rf", r"is known, such as \S*rf/_annotations\.coco\.json, which"),
        ({"odd/readme.md": ""}, "odd", "is a folder of no kind that is known; pass a COCO JSON, YOLO's data.yaml"),
    ],
)  # fmt: skip
def test_a_data_set_of_yolo_that_is_not_whole_is_said(
    tmp_path: Path, held: dict[str, str], source: str, message: str
) -> None:
    files(pictures(tmp_path, "images/a.png"), held)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_instances(tmp_path / source)


def shape(kind: str, points: Sequence[Sequence[Any]], label: str = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def labelme(*shapes: dict[str, Any], **more: Any) -> str:
    return json.dumps({"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": "a.png", "imageData": "iVBORw0",
                       "imageHeight": 200, "imageWidth": 100, **more})  # fmt: skip


def test_labelme_in_every_kind_of_shape(tmp_path: Path) -> None:
    part = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [255, 255]], dtype=np.uint8)).save(part, "PNG")
    text = base64.b64encode(part.getvalue()).decode()
    shapes = (
        shape("rectangle", [[60, 110], [40, 90]], label="dog"),
        shape("rectangle", [[1, 2], [5, 2], [5, 8], [1, 8]]),  # X-AnyLabeling
        shape("polygon", [[10, 20], [50, 20], [50, 60]], group_id=7),
        shape("polygon", [[60, 20], [70, 20], [70, 30]], group_id=7),
        shape("circle", [[50, 50], [50, 60]]),
        shape("mask", [[10, 20], [11, 21]], mask=text),
        shape("point", [[1, 1]]),
        shape("line", [[1, 1], [2, 2]]),
    )
    pictures(tmp_path, "img/a.png", "img/sub/b.png", "img/c.png")
    files(tmp_path, {"img/a.json": labelme(*shapes), "img/sub/b.json": labelme(imagePath="..\\sub\\b.png"),
                     "img/c.json": labelme(imagePath="/home/somebody/c.png"), "img/other.json": "{}"})  # fmt: skip
    for images in (tmp_path / "img", None):
        table = read_instances(tmp_path / "img", masks=True, images=images)
        assert list(boxes(table)) == ["a.png", "c.png", "sub/b.png"]
        dog, square, circle, mask, joined = boxes(table)["a.png"]
        assert (dog, square) == (("dog", [40, 90, 60, 110]), ("cat", [1, 2, 5, 8]))
        assert joined == ("cat", [10, 20, 70, 60])
        assert circle[1] == pytest.approx([40, 40, 60, 60], abs=0.1)
        assert mask == ("cat", [10, 20, 12, 22])
        assert remarks(table)[:3] == ["lines and points left out", "shapes of one group and label are one object",
                                      'JSON files without "shapes" left out']  # fmt: skip
        assert (table.report.listed["rows"], table.report.read["rows"]) == (7, 5)
        assert table.segments is not None
        assert int(table.segments.decode(3, (200, 100)).sum()) == 3
    assert [one.name for one in table.categories] == ["cat", "dog"]
    files(tmp_path, {"img/labels.txt": "__ignore__\n_background_\ndog\ncat\n"})
    assert [one.name for one in read_instances(tmp_path / "img").categories] == ["dog", "cat"]
    assert boxes(read_instances(tmp_path / "img/a.json", images=tmp_path / "img"))["a.png"][0] == dog


def test_labelme_s_groups_of_boxes_are_one_object_and_its_own_labels_are_none(tmp_path: Path) -> None:
    """As labelme's own labelme2coco has it: an instance is a label and a group, whatever its shapes are."""
    shapes = (
        shape("rectangle", [[10, 20], [30, 40]], group_id=1),
        shape("rectangle", [[60, 90], [50, 70]], group_id=1),
        shape("rectangle", [[10, 20], [30, 40]], group_id=1, label="dog"),
        shape("rectangle", [[0, 0], [4, 2]], group_id=2),
        shape("polygon", [[10, 10], [20, 10], [20, 20]], group_id=2),
        shape("polygon", [[10, 10], [20, 10], [20, 20]], label="_background_"),
        shape("rectangle", [[10, 10], [20, 20]], label="__ignore__"),
    )
    pictures(tmp_path, "a.png")
    files(tmp_path, {"a.json": labelme(*shapes)})
    table = read_instances(tmp_path, masks=True, images=tmp_path)
    both, dog, mixed = boxes(table)["a.png"]
    assert both == ("cat", [10, 20, 60, 90])
    assert dog == ("dog", [10, 20, 30, 40])
    assert mixed == ("cat", [0, 0, 20, 20])
    assert [one.name for one in table.categories] == ["cat", "dog"]
    assert table.segments is not None
    drawn = Image.new("L", (100, 200))
    ImageDraw.Draw(drawn).rectangle([0, 0, 3, 1], fill=1)
    assert bool(table.segments.decode(2, (200, 100))[:2, :4].all())
    assert int(table.segments.decode(2, (200, 100))[:9].sum()) == int(np.asarray(drawn).sum())
    assert remarks(table)[0] == "shapes that are no object by their label (__ignore__, _background_) left out"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (shape("polygon", [[1, 1], [2, 2]]), r"a\.json: shapes\[0\]: a polygon of 2 points, expected at least 3"),
        (shape("polygon", [[1, 1, 1]]), r'shapes\[0\]: its "points" are not of the form \[\[x, y\], \.\.\.\]'),
        (shape("rectangle", [[1, 1], [2, "a"]]), r"shapes\[0\]: y is 'a', expected a number"),
        ({"points": []}, r'shapes\[0\] has no "label"'),
        (shape("mask", [[1, 1], [2, 2]], mask="?"), r'shapes\[0\]: its "mask" is no picture in base64'),
    ],
)
def test_a_shape_of_labelme_that_cannot_be_meant_is_named(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    files(tmp_path, {"a.json": labelme(wrong)})
    with pytest.raises(ValueError, match=message):
        read_instances(tmp_path)


def region(kind: str, value: dict[str, Any], label: str = "cat") -> dict[str, Any]:
    return {"id": "x", "type": kind, "original_width": 100, "original_height": 200, "image_rotation": 0,
            "from_name": "label", "to_name": "image", "value": {**value, kind: [label]}}  # fmt: skip


def test_label_studio_as_it_is_exported(tmp_path: Path) -> None:
    box = region("rectanglelabels", {"x": 40, "y": 45, "width": 20, "height": 10, "rotation": 0}, "dog")
    turned = region("rectanglelabels", {"x": 50, "y": 50, "width": 20, "height": 10, "rotation": 90})
    ring = region("polygonlabels", {"points": [[10, 10], [50, 10], [50, 30]], "closed": True})
    brush = region("brushlabels", {"format": "rle", "rle": [1, 2]})
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    bare = {"type": "rectangle", "original_width": 100, "original_height": 200, "value": {"x": 1}}
    tasks = [
        {"id": 1, "data": {"image": "/data/upload/3/5b2f9a1c-a.png"},
         "annotations": [{"result": [], "was_cancelled": True}, {"result": [box, turned, ring, brush, choice, bare]}]},
        {"id": 2, "data": {"img": "/data/local-files/?d=sub%2Fb.png", "text": "words"}, "annotations": [],
         "predictions": [{"result": [box], "score": 0.4}, {"result": [ring]}]},
        {"id": 3, "data": {"image": "https://host/x/c.png?token=1"}, "annotations": [{"result": []}],
         "predictions": [{"result": [box]}]},
        {"id": 4, "data": {"image": "s3://bucket/deep/d%20e.png"},
         "annotations": [{"result": [ring], "ground_truth": True}, {"result": [box]}]},
    ]  # fmt: skip
    pictures(tmp_path, "img/a.png", "img/sub/b.png", "img/c.png", "img/deep/d e.png")
    files(tmp_path, {"tasks.json": json.dumps(tasks)})
    table = read_instances(tmp_path / "tasks.json", images=tmp_path / "img")
    dog, polygon = ("dog", [40, 90, 60, 110]), ("cat", [10, 20, 50, 60])
    assert boxes(table) == {
        "a.png": [dog, ("cat", [30, 100, 50, 120]), polygon], "sub/b.png": [dog], "c.png": [],
        "deep/d e.png": [polygon],
    }  # fmt: skip
    assert set(remarks(table)) == {
        "brush strokes left out; export them as COCO", "results without a box or polygon left out",
        "tasks with several annotations are read by one of them",
    }  # fmt: skip
    assert table.report.kind == "instances, Label Studio"
    least = [{"image": "/data/upload/3/5b2f9a1c-a.png", "id": 1, "annotator": 1, "annotation_id": 2, "lead_time": 3.0,
              "label": [{"x": 40, "y": 45, "width": 20, "height": 10, "rotation": 0, "rectanglelabels": ["dog"],
                         "original_width": 100, "original_height": 200}]}]  # fmt: skip
    files(tmp_path, {"min.json": json.dumps(least)})
    assert boxes(read_instances(tmp_path / "min.json", images=tmp_path / "img")) == {"a.png": [dog]}


def test_a_polygon_of_label_studio_without_a_point_is_left_out(tmp_path: Path) -> None:
    box = region("rectanglelabels", {"x": 40, "y": 45, "width": 20, "height": 10})
    begun = region("polygonlabels", {"points": [], "closed": False})
    task = {"data": {"image": "a.jpg"}, "annotations": [{"result": [begun, box]}]}
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    for masks in (False, True):
        table = read_instances(tmp_path / "tasks.json", masks=masks)
        assert len(table) == 1
        assert "rows without a box and with an empty mask left out" in table.report.to_line()


def test_regions_of_label_studio_that_may_mean_something_else_are_told(tmp_path: Path) -> None:
    several = region("rectanglelabels", {"x": 40, "y": 45, "width": 20, "height": 10})
    several["value"]["rectanglelabels"] = ["cat", "dog"]
    on_its_side = {**region("rectanglelabels", {"x": 4, "y": 4, "width": 20, "height": 10}), "image_rotation": 90}
    pictures(tmp_path, "a.png")
    task = {"data": {"image": "a.png"}, "annotations": [{"result": [several, on_its_side]}]}
    files(tmp_path, {"tasks.json": json.dumps([task])})
    table = read_instances(tmp_path / "tasks.json", images=tmp_path)
    assert [name for name, _ in boxes(table)["a.png"]] == ["cat", "cat"]
    assert set(remarks(table)) == {
        "regions of several labels are read by the first",
        "regions were drawn on a picture that was turned (image_rotation): look at them",
    }


@pytest.mark.parametrize("degrees", [30.0, 90.0, 180.0, -45.0, 359.5])
def test_turned_boxes_of_cvat_are_turned_about_their_middle(degrees: float, tmp_path: Path) -> None:
    """With the hands of a clock, as the tool draws them: against the same turn of complex numbers."""
    pictures(tmp_path, "a.png")
    left, top, right, bottom = 40.0, 90.0, 60.0, 100.0
    body = f"""<image id="0" name="a.png" width="100" height="200"><box label="cat" xtl="{left}" ytl="{top}"
        xbr="{right}" ybr="{bottom}" rotation="{degrees}"/></image>"""
    files(tmp_path, {"annotations.xml": CVAT.format(body=body)})
    table = read_instances(tmp_path / "annotations.xml", masks=True, images=tmp_path)
    middle, turn = complex(50, 95), cmath.exp(1j * math.radians(degrees))  # y points down: a clock's hands
    ring = [middle + (corner - middle) * turn for corner in
            (complex(left, top), complex(right, top), complex(right, bottom), complex(left, bottom))]  # fmt: skip
    xs, ys = [corner.real for corner in ring], [corner.imag for corner in ring]
    assert boxes(table)["a.png"][0][1] == pytest.approx([min(xs), min(ys), max(xs), max(ys)], abs=1e-3)
    assert table.segments is not None
    assert int(table.segments.decode(0, (200, 100)).sum()) == pytest.approx(200, abs=25)
    assert remarks(table) == []


def test_a_result_of_label_studio_that_cannot_be_meant_is_named(tmp_path: Path) -> None:
    task: dict[str, Any] = {
        "data": {"image": "a.png"},
        "annotations": [{"result": [region("rectanglelabels", {"x": "?"})]}],
    }
    files(tmp_path, {"a.json": json.dumps([task]), "b.json": json.dumps([{"data": {"text": "a"}}])})
    with pytest.raises(ValueError, match=r"a\.json: task \[0\], annotation result \[0\]: x is '\?', expected a number"):
        read_instances(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"b\.json: task \[0\] names no picture; expected its path or address"):
        read_instances(tmp_path / "b.json")
    wrong: dict[str, dict[str, Any]] = {
        "result": {"annotations": [{"result": 3}]}, "annotations": {"annotations": {"result": []}},
        "predictions": {"predictions": "x"}, "completions": {"completions": 1.5}, "data": {"data": ["a.png"]},
    }  # fmt: skip
    for key, broken in wrong.items():
        files(tmp_path, {"c.json": json.dumps([{"data": {"image": "z.png"}}, {"data": {"image": "a.png"}, **broken}])})
        with pytest.raises(ValueError, match=rf'c\.json: task \[1\].*: its "{key}" is .*, expected a'):
            read_instances(tmp_path / "c.json")


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><size>2</size><labels><label><name>cat</name><attributes></attributes></label>
<label><name>dog</name></label></labels>
<original_size><width>100</width><height>200</height></original_size></task></meta>
{body}</annotations>"""


def test_cvat_for_images_and_for_videos(tmp_path: Path) -> None:
    body = """<image id="0" name="sub/a.png" width="100" height="200">
      <box label="dog" source="manual" occluded="0" xtl="40.00" ytl="90.00" xbr="60.00" ybr="110.00" z_order="0">
        <attribute name="old">true</attribute></box>
      <polygon label="cat" points="10.0,20.0;50.0,20.0;50.0,60.0" group_id="1"></polygon>
      <polygon label="cat" points="60,20;70,20;70,30" group_id="1"></polygon>
      <mask label="cat" rle="1, 3" left="10" top="20" width="2" height="2" z_order="0"></mask>
      <points label="cat" points="1,1"/><tag label="cat"/></image>
      <image id="1" name="b.png" width="100" height="200"></image>"""
    pictures(tmp_path, "img/sub/a.png", "img/b.png")
    files(tmp_path, {"export/annotations.xml": CVAT.format(body=body)})
    for source in ("export", "export/annotations.xml"):
        table = read_instances(tmp_path / source, masks=True, images=tmp_path / "img")
        assert boxes(table) == {
            "sub/a.png": [("dog", [40, 90, 60, 110]), ("cat", [10, 20, 12, 22]), ("cat", [10, 20, 70, 60])],
            "b.png": [],
        }  # fmt: skip
        assert remarks(table)[0] == "lines, points and other shapes without an area left out"
        assert table.segments is not None
        assert table.segments.decode(1, (200, 100))[20:22, 10:12].tolist() == [[False, True], [True, True]]
    track = """<track id="0" label="dog"><box frame="0" outside="0" xtl="1" ytl="2" xbr="3" ybr="4"/>
      <box frame="5" outside="0" keyframe="1" xtl="2" ytl="2" xbr="4" ybr="4"/>
      <box frame="6" outside="1" xtl="2" ytl="2" xbr="4" ybr="4"/></track>"""
    files(tmp_path, {"video.xml": CVAT.format(body=track)})
    assert boxes(read_instances(tmp_path / "video.xml")) == {
        "frame_000000.PNG": [("dog", [1, 2, 3, 4])], "frame_000005.PNG": [("dog", [2, 2, 4, 4])],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('<image name="a.png" width="9" height="9"><box label="cat" xtl="1"/></image>',
         r"image a\.png, shape \[0\]: ytl is None, expected a number"),
        ('<image name="a.png"><polygon label="cat" points="1,1;2,2"/></image>', r"its points are not of the form"),
        ('<image name="a.png"><polygon points="1,1;2,2;3,1"/></image>', r"shape \[0\] has no label"),
        ('<image name="a.png" width="9" height="9"><mask label="c" rle="1,1" left="0" top="0" width="2" height="2"/>'
         '</image>',
         r"its run lengths fill 2 pixels, its box has 2 x 2"),
        ('<image id="4"/>', r"<image id='4'> has no name"),
        ("<image", "is not valid XML"),
        ("", "lists no <image> and no <track>"),
    ],
)  # fmt: skip
def test_what_of_cvat_cannot_be_meant_is_named(tmp_path: Path, body: str, message: str) -> None:
    files(tmp_path, {"a.xml": CVAT.format(body=body)})
    with pytest.raises(ValueError, match=message):
        read_instances(tmp_path / "a.xml")


def test_an_encoding_that_nobody_knows_is_no_valid_xml(tmp_path: Path) -> None:
    files(tmp_path, {"a.xml": CVAT.format(body="").replace("utf-8", "u2f-8")})
    with pytest.raises(ValueError, match=r"a\.xml is not valid XML \(unknown encoding: u2f-8\)"):
        read_instances(tmp_path / "a.xml")


def test_masks_of_labels_reach_the_evaluation_of_regions(tmp_path: Path) -> None:
    pictures(tmp_path, "images/a.png")
    files(tmp_path, {"data.yaml": "train: images\nnames: [cat]", "labels/a.txt": "0 0 0 .5 0 .5 .5 0 .5"})
    held = open_labelled(tmp_path / "data.yaml", tmp_path / "images").read(0)
    assert held.masks_RHW is not None
    assert int(held.masks_RHW.sum()) == 50 * 100
