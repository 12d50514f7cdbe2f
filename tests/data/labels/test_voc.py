"""Pascal VOC's XML as the development kit, LabelImg, Roboflow and CVAT write it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.datasets import VOCDetection

from clipself.data.coco.check import check_file
from clipself.data.coco.instances import Instances, read_instances
from clipself.data.detection import CocoDetection
from clipself.data.labelled import open_labelled
from clipself.data.sources import CocoImages

WIDTH, HEIGHT = 100, 80


def thing(name: str, box: Sequence[Any], *, difficult: str | None = "0", inner: str = "") -> str:
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return (
        f"<object><name>{name}</name><pose>Left</pose><truncated>1</truncated>{flag}"
        f"<bndbox>{corners}</bndbox>{inner}</object>"
    )


def xml(*things: str, filename: str = "", size: str | None = None, head: str = "") -> str:
    sides = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>" if size is None else size
    return (
        f"{head}<annotation><folder>VOC2007</folder><filename>{filename}</filename><source><database>The VOC2007 "
        f"Database</database></source>{sides}<segmented>1</segmented>{''.join(things)}</annotation>"
    )


PART = "<part><name>head</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
HELD = {
    "000005": xml(
        thing("person", (1, 1, WIDTH, HEIGHT), inner=PART + PART),
        thing("dog", (11, 21, 30, 40), difficult="1"),
        filename="000005.jpg",
    ),
    "my photo 1": xml(thing("dog", ("45.5", "10.25", "60", "20"), difficult=None), filename="000005.jpg"),
    "empty": xml(filename="empty.jpg"),
}
BOXES = {
    "000005.jpg": [("person", [0, 0, 100, 80], False), ("dog", [10, 20, 30, 40], True)],
    "empty.jpg": [],
    "my photo 1.jpg": [("dog", [44.5, 9.25, 60, 20], False)],
}


def lay(root: Path, held: Mapping[str, str], *, labels: str = "Annotations", images: str = "JPEGImages") -> Path:
    for folder in (labels, images):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in held.items():
        (root / labels / f"{name}.xml").write_text(text)
        Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(root / images / f"{name}.jpg")
    return root


def boxes(table: Instances) -> dict[str, list[tuple[str, list[float], bool]]]:
    """Picture -> (name, `xyxy`, whether it is a crowd) of its rows."""
    found: dict[str, list[tuple[str, list[float], bool]]] = {image.file: [] for image in table.images}
    for row, (x, y, w, h) in enumerate(table.boxes_N4.tolist()):
        name = table.categories[int(table.category_N[row])].name
        found[table.images[int(table.image_N[row])].file].append((name, [x, y, x + w, y + h], bool(table.crowd_N[row])))
    return found


def remarks(table: Instances) -> dict[str, int]:
    return {remark.what: remark.count for remark in table.report.remarks}


def test_a_folder_of_the_kit_in_every_way_it_may_be_passed(tmp_path: Path) -> None:
    root = lay(tmp_path / "VOC 2007", HELD)
    for source in (root, root / "Annotations"):
        for images in (None, root / "JPEGImages"):
            assert boxes(read_instances(source, images=images)) == BOXES
    below = {f"JPEGImages/{file}": rows for file, rows in BOXES.items()}
    table = read_instances(root, images=root)
    assert boxes(table) == below
    assert [one.name for one in table.categories] == ["dog", "person"]
    assert [one.size for one in table.images] == [(HEIGHT, WIDTH)] * 3
    assert table.report.kind == "instances, Pascal VOC"
    assert remarks(table) == {
        "difficult objects are crowds: not looked for, not learned from": 1,
        "objects have parts, which are left out": 1,
        "XML files that name another picture than that of their own name": 1,
    }
    one = read_instances(root / "Annotations/empty.xml", images=root / "JPEGImages")
    assert boxes(one) == {"empty.jpg": []}


def test_what_torchvision_parses_is_what_is_read(tmp_path: Path) -> None:
    root = lay(tmp_path / "VOCdevkit/VOC2007", {name: HELD[name] for name in ("000005", "empty")})
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/val.txt").write_text("empty\n000005\n")
    theirs = VOCDetection(tmp_path, year="2007", image_set="val")
    ours = boxes(read_instances(root / "ImageSets/Main/val.txt", images=root / "JPEGImages"))
    for index, (file, rows) in enumerate(ours.items()):
        assert Path(theirs.images[index]).name == file
        objects = theirs[index][1]["annotation"].get("object", [])
        pixels = [[float(one["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")] for one in objects]
        assert [name for name, _, _ in rows] == [one["name"] for one in objects]
        assert [difficult for *_, difficult in rows] == [one["difficult"] == "1" for one in objects]
        for (_, box, _), (left, top, right, bottom) in zip(rows, pixels, strict=True):
            first, last = torch.zeros(HEIGHT, WIDTH), torch.zeros(HEIGHT, WIDTH)
            first[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 1
            last[int(top) - 1 : int(bottom), int(left) - 1 : int(right)] = 1  # pixels of both corners, counted from 1
            assert torch.equal(first, last)


def test_a_split_is_chosen_by_its_list(tmp_path: Path) -> None:
    root = lay(tmp_path, HELD)
    lists = root / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text('my photo 1\n\nmy photo 1\r\n"empty"\n')
    assert list(boxes(read_instances(lists / "train.txt"))) == ["my photo 1.jpg", "empty.jpg"]
    assert len(CocoDetection(lists / "train.txt", root / "JPEGImages", train=False)) == 2
    (lists / "val.txt").write_text("000005\ngone\n2008_000002\n")
    with pytest.raises(
        FileNotFoundError, match=r"2 of the 3 names in .*val\.txt have no XML in .*\(gone, 2008_000002\)"
    ):
        read_instances(lists / "val.txt")
    (lists / "dog_val.txt").write_text("000005  1\nempty -1\n")
    with pytest.raises(ValueError, match=r"dog_val\.txt says of one class which pictures show it; pass .* val\.txt"):
        read_instances(lists / "dog_val.txt")


def test_every_view_takes_them_and_leaves_difficult_objects_out(tmp_path: Path) -> None:
    root = lay(tmp_path, HELD)
    images = root / "JPEGImages"
    training = CocoDetection(root, images, base=["dog", "person"])
    assert [training.boxes(index).tolist() for index in range(len(training))] == [
        [[0, 0, 100, 80]], [[44.5, 9.25, 60, 20]],
    ]  # fmt: skip
    regions = open_labelled(root, images)
    assert [len(regions.read(index).boxes) for index in range(len(regions))] == [1, 1]
    free = CocoImages(root, images)
    assert [len(free.boxes_xywh(index, size=(HEIGHT, WIDTH))) for index in range(len(free))] == [2, 0, 1]
    assert check_file(root, images).read == {"pictures": 2, "rows": 3, "classes": 2}


def test_exports_that_lie_beside_their_pictures(tmp_path: Path) -> None:
    name = "a_jpg.rf.0c1d"
    for part in ("train", "valid"):
        lay(tmp_path, {name: xml(thing("cat", (0, 5, 20, 30)), filename=f"{name}.jpg")}, labels=part, images=part)
    (tmp_path / "README.dataset.txt").write_text("exported")
    (tmp_path / "train/README.roboflow.txt").write_text("exported")
    (tmp_path / "train/._hidden.xml").write_text("\0\5\x16")
    for images in (None, tmp_path):
        assert list(boxes(read_instances(tmp_path, images=images))) == [f"train/{name}.jpg", f"valid/{name}.jpg"]
    table = read_instances(tmp_path / "train", images=tmp_path / "train")
    assert boxes(table) == {f"{name}.jpg": [("cat", [0, 5, 20, 30], False)]}  # 0 is no pixel that is counted from 1
    assert remarks(table) == {"files have corners below 1, so that all are read as edges, not as pixels from 1": 1}


@pytest.mark.parametrize(
    ("labels", "stored", "filename", "file"),
    [
        pytest.param("xml/sub", "img/sub/b.png", "b.png", "sub/b.png", id="folders-alike"),
        pytest.param("xml/sub", "img/b.png", "b.png", "b.png", id="all-in-one"),
        pytest.param("xml", "img/other.PNG", "C:\\photos\\other.PNG", "other.PNG", id="by-the-name-in-it"),
        pytest.param("xml", "img/other.jpeg", "other", "other.jpeg", id="by-the-name-in-it-without-suffix"),
        pytest.param("xml", "img/b.webp", "b.jpg", "b.webp", id="of-another-suffix"),
        pytest.param("xml", "img/away.png", "../../c.png", "b.jpg", id="nowhere"),
        pytest.param("xml", "img/away.png", "b.PNG", "b.PNG", id="nowhere-as-named"),
    ],
)
def test_the_picture_of_a_file(tmp_path: Path, labels: str, stored: str, filename: str, file: str) -> None:
    for path in (tmp_path / labels / "b.xml", tmp_path / stored):
        path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / labels / "b.xml").write_text(xml(thing("cat", (1, 2, 3, 4)), filename=filename, size=""))
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / stored)
    table = read_instances(tmp_path / "xml", images=tmp_path / "img")
    assert boxes(table) == {file: [("cat", [0, 1, 3, 4], False)]}
    assert table.images[0].size is None
    if not (tmp_path / "img" / file).exists():
        with pytest.raises(FileNotFoundError, match=file):
            CocoDetection(tmp_path / "xml", tmp_path / "img", base=["cat"])


def test_of_several_pictures_the_one_that_is_named(tmp_path: Path) -> None:
    root = lay(tmp_path, {"a": xml(thing("cat", (1, 2, 3, 4)), filename="a.png", size="<size><width>0</width></size>")})
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "JPEGImages/a.png")
    assert list(boxes(read_instances(root))) == ["a.png"]


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'
FAR = '<!DOCTYPE a [<!ENTITY c SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (xml(thing("cat", (5, 2, 3, 4))), r"a\.xml: object \[0\] \(cat\): its corners 5, 2, 3, 4 are swapped"),
        (xml(thing("cat", (1, 2, 3, "x"))), r"a\.xml: object \[0\] \(cat\): ymax is 'x', expected a number"),
        (xml(thing("cat", (1, "nan", 3, 4))), r"ymin is 'nan', expected a number"),
        (xml(thing("cat", (1, 2, 3, 4)).replace("<xmax>3</xmax>", "")), "xmax is None, expected a number"),
        (xml("<object><name>cat</name></object>"), r"object \[0\] \(cat\) has no <bndbox>; only boxes are read"),
        (xml(thing(" ", (1, 2, 3, 4))), r"object \[0\] has no <name>; every object needs"),
        (xml(thing("cat", (1, 2, 3, 4), difficult="maybe")), "<difficult> is 'maybe', expected 0 or 1"),
        (xml(size="<size><width>-3</width><height>4</height></size>"), r"a\.xml: the size '-3' x '4' .* is none"),
        (xml()[:40], r"a\.xml is not valid XML \(unclosed token.*\); was it cut short"),
        ("", r"a\.xml is not valid XML \(no element found"),
        (xml(head='<?xml version="1.0" encoding="u2f-8"?>'), r"a\.xml is not valid XML \(unknown encoding: u2f-8\)"),
        (xml(thing("&c;", (1, 2, 3, 4)), head=BOMB), r"a\.xml declares a document type .*; labels need none, remove"),
        (xml(thing("&c;", (1, 2, 3, 4)), head=FAR), r"a\.xml declares a document type"),
        ("<annotations/>", "holds no XML of one picture"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_named(tmp_path: Path, text: str, message: str) -> None:
    lay(tmp_path, {"a": text})
    with pytest.raises(ValueError, match=message):
        read_instances(tmp_path)


def test_damaged_files_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    lay(tmp_path, {**HELD, **{f"broken {number}": "<annotation><object>" for number in range(5)}})
    said = r"5 of the 8 files of .* cannot be read \(broken 0\.xml, broken 1\.xml, broken 2\.xml, \.\.\.\): .*0\.xml is"
    with pytest.raises(ValueError, match=said):
        read_instances(tmp_path)


def test_files_of_another_kind_are_left_out_and_flags_may_be_words(tmp_path: Path) -> None:
    rows = [thing("cat", (1, 2, 3, 4), difficult=word) for word in ("Unspecified", "", "true")]
    lay(tmp_path, {"a": xml(*rows), "b": "<annotations/>"})
    table = read_instances(tmp_path)
    assert table.crowd_N.tolist() == [False, False, True]
    assert remarks(table)["XML files of another kind left out"] == 1
