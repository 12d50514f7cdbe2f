"""Every format that is written is read back by its own tools, and by our reader to the same boxes and masks."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
import pytest
import supervision
import yaml
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from scipy import ndimage

from clipself.data.coco.instances import Instances, read_instances
from clipself.data.labels.formats import LABEL_FORMATS
from clipself.data.labels.objects import Export, LabelledObject, LabelledPicture
from clipself.ops.run_lengths import encode_mask

NAMES: Final = ("cat", "hot dog", 'é "&"')
POLYGONS: Final = ("coco", "yolo-polygons", "label-studio", "labelme", "cvat")
SIZES: Final = {"a.png": (60, 80), "sub/b b.png": (90, 50), "empty.png": (40, 40)}
WRITTEN: Final = {
    "coco": "instances.json", "yolo": "data.yaml", "yolo-polygons": "data.yaml", "label-studio": "tasks.json",
    "labelme": "", "cvat": "annotations.xml", "voc": "",
}  # fmt: skip
"""Format -> what is opened or imported."""


def mask_of(file: str, seed: int) -> NDArray[np.bool_]:
    """Two parts, one with a hole."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SIZES[file]), 4)
    return np.asarray(noise > np.quantile(noise, 0.8))


def object_of(file: str, seed: int, *, masks: bool) -> LabelledObject:
    mask = mask_of(file, seed)
    ys, xs = np.nonzero(mask)
    box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    return LabelledObject(
        label=seed % len(NAMES), box=box, score=0.5 + seed / 100, mask=encode_mask(mask) if masks else None
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for file, (height, width) in SIZES.items():
        (folder / file).parent.mkdir(exist_ok=True)
        Image.new("RGB", (width, height), (200, 30, 30)).save(folder / file)
    return folder


def export(photos: Path, *, masks: bool, **more: Any) -> Export:
    seeds = {"a.png": (0, 1), "sub/b b.png": (2,), "empty.png": ()}
    pictures = [
        LabelledPicture(
            file=file, path=photos / file, size=SIZES[file],
            objects=tuple(object_of(file, seed, masks=masks) for seed in seeds[file]),
        )
        for file in SIZES
    ]  # fmt: skip
    return Export(pictures=pictures, names=NAMES, **{"tolerance": 0.0, **more})


def rows(table: Instances) -> dict[str, list[tuple[str, list[float]]]]:
    found: dict[str, list[tuple[str, list[float]]]] = {image.file: [] for image in table.images}
    for image, category, box in zip(
        table.image_N.tolist(), table.category_N.tolist(), table.boxes_N4.tolist(), strict=True
    ):
        found[table.images[image].file].append((table.categories[category].name, box))
    return found


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
@pytest.mark.parametrize("name", LABEL_FORMATS)
def test_our_reader_gives_the_same_boxes_and_masks(name: str, masks: bool, photos: Path, tmp_path: Path) -> None:
    given = export(photos, masks=masks)
    path = LABEL_FORMATS[name](given, tmp_path / "labels")
    assert path == tmp_path / "labels" / WRITTEN[name]
    images = tmp_path / "labels/images" if name.startswith("yolo") else photos
    table = read_instances(path, masks=True, images=images)
    found = rows(table)
    assert set(found) == set(SIZES)
    for picture in given:
        assert [row[0] for row in found[picture.file]] == [NAMES[one.label] for one in picture.objects]
        for (_, (x, y, w, h)), one in zip(found[picture.file], picture.objects, strict=True):
            assert (x, y, x + w, y + h) == pytest.approx(one.box, abs=0.011)
    assert table.segments is not None
    assert not [remark for remark in table.report.remarks if "without a label file" in remark.what]
    if masks and name in POLYGONS:
        for row in range(len(table)):
            image = table.images[int(table.image_N[row])]
            (picture,) = [picture for picture in given if picture.file == image.file]
            place = row - int(np.searchsorted(table.image_N, table.image_N[row]))
            assert image.size is not None
            decoded = table.segments.decode(row, image.size).numpy()
            np.testing.assert_array_equal(decoded, picture.objects[place].decode())


@pytest.mark.parametrize("tolerance", [0.0, 1.0])
def test_pycocotools_and_supervision_read_coco(photos: Path, tmp_path: Path, tolerance: float) -> None:
    given = export(photos, masks=True, tolerance=tolerance)
    path = LABEL_FORMATS["coco"](given, tmp_path)
    coco = COCO(str(path))
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == list(NAMES)
    for number, picture in enumerate(given, start=1):
        held = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        assert coco.loadImgs([number])[0]["file_name"] == picture.file
        for row, one in zip(held, picture.objects, strict=True):
            np.testing.assert_array_equal(coco.annToMask(row), one.decode())
            assert row["area"] == one.decode().sum()
            assert (row["score"], row["iscrowd"]) == (one.score, 0)
    read = supervision.DetectionDataset.from_coco(str(photos), str(path), force_masks=True)
    assert read.classes == list(NAMES)
    assert sorted(len(found) for found in read.annotations.values()) == [0, 1, 2]


@pytest.mark.parametrize(("name", "masks"), [("yolo", False), ("yolo-polygons", True)])
def test_supervision_reads_yolo(name: str, masks: bool, photos: Path, tmp_path: Path) -> None:
    given = export(photos, masks=masks)
    path = LABEL_FORMATS[name](given, tmp_path)
    held = yaml.safe_load(path.read_text())
    assert (held["names"], held["nc"], held["train"]) == (list(NAMES), 3, "images")
    for picture in given:
        folder = Path(picture.file).parent
        read = supervision.DetectionDataset.from_yolo(
            str(tmp_path / "images" / folder), str(tmp_path / "labels" / folder), str(path), force_masks=masks
        )
        found = read.annotations[str(tmp_path / "images" / picture.file)]
        assert len(found) == len(picture.objects)
        for box, label, one in zip(found.xyxy, found.class_id, picture.objects, strict=True):
            assert box.tolist() == pytest.approx(one.box, abs=1.01 if masks else 0.01)  # it rounds polygons to pixels
            assert label == one.label
    lines = (tmp_path / "labels/a.txt").read_text().splitlines()
    assert [len(line.split()) == 5 for line in lines] == [not masks] * 2
    assert (tmp_path / "labels/empty.txt").read_text() == ""
    assert (tmp_path / "images/sub/b b.png").is_symlink()


def test_pictures_are_copied_where_that_is_asked_for(photos: Path, tmp_path: Path) -> None:
    for _ in range(2):  # writing again replaces
        LABEL_FORMATS["yolo"](export(photos, masks=False, copy=True), tmp_path)
    copied = tmp_path / "images/sub/b b.png"
    assert not copied.is_symlink()
    assert copied.read_bytes() == (photos / "sub/b b.png").read_bytes()


def test_a_box_among_polygons_of_yolo_is_its_corners(photos: Path, tmp_path: Path) -> None:
    LABEL_FORMATS["yolo-polygons"](export(photos, masks=False), tmp_path)
    assert {len(line.split()) for line in (tmp_path / "labels/a.txt").read_text().splitlines()} == {9}


LABELME_SHAPE: Final[Mapping[str, Any]] = {
    "label": str, "points": list, "group_id": (int, type(None)), "shape_type": str, "flags": dict,
    "description": (str, type(None)), "mask": (str, type(None)),
}  # fmt: skip
"""Keys of a shape that labelme 5 writes and loads -> their types."""


@pytest.mark.parametrize("masks", [False, True])
def test_labelme_loads_its_files(masks: bool, photos: Path, tmp_path: Path) -> None:
    """By the rules of its `LabelFile.load`: these keys, pictures relative to the JSON, sizes as they are."""
    given = export(photos, masks=masks)
    LABEL_FORMATS["labelme"](given, tmp_path)
    for picture in given:
        file = (tmp_path / picture.file).with_suffix(".json")
        held = json.loads(file.read_text())
        assert {"version", "imageData", "imagePath", "shapes", "flags", "imageHeight", "imageWidth"} == set(held)
        with Image.open(file.parent / held["imagePath"]) as opened:
            assert (held["imageHeight"], held["imageWidth"]) == (opened.height, opened.width)
        assert held["imageData"] is None
        for shape, one in zip(held["shapes"], picture.objects, strict=True):
            for key, kind in LABELME_SHAPE.items():
                assert isinstance(shape[key], kind), key
            assert shape["shape_type"] == ("polygon" if masks else "rectangle")
            assert len(shape["points"]) == 2 or masks
            assert all(len(point) == 2 for point in shape["points"])
            assert (shape["label"], shape["score"]) == (NAMES[one.label], one.score)  # X-AnyLabeling shows the score
    assert (tmp_path / "labels.txt").read_text().splitlines() == list(NAMES)


@pytest.mark.parametrize("masks", [False, True])
def test_label_studio_imports_its_tasks(masks: bool, photos: Path, tmp_path: Path) -> None:
    """By the documented form of pre-annotations: names of controls, types, percent, original sizes."""
    given = export(photos, masks=masks, model="mine")
    tasks = json.loads(LABEL_FORMATS["label-studio"](given, tmp_path).read_text())
    interface = ElementTree.parse(tmp_path / "config.xml").getroot()
    image = interface.find("Image")
    assert image is not None
    assert image.get("value") == "$image"
    controls = {control.get("name"): control for control in interface if control.tag != "Image"}
    assert [task["data"]["image"] for task in tasks] == [
        "/data/local-files/?d=a.png", "/data/local-files/?d=sub/b%20b.png", "/data/local-files/?d=empty.png",
    ]  # fmt: skip
    for task, picture in zip(tasks, given, strict=True):
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == "mine"
        ids = [result["id"] for result in prediction["result"]]
        assert len(set(ids)) == len(ids) == len(picture.objects)
        for result, one in zip(prediction["result"], picture.objects, strict=True):
            control = controls[result["from_name"]]
            assert result["type"] == control.tag.lower() == ("polygonlabels" if masks else "rectanglelabels")
            assert result["to_name"] == control.get("toName") == image.get("name")
            assert result["value"][result["type"]][0] in [label.get("value") for label in control]
            assert (result["original_height"], result["original_width"]) == picture.size
            percent = np.array(result["value"]["points"]) if masks else np.array(
                [[result["value"]["x"], result["value"]["y"]],
                 [result["value"]["x"] + result["value"]["width"], result["value"]["y"] + result["value"]["height"]]]
            )  # fmt: skip
            pixels = percent * picture.size[::-1] / 100
            assert [*pixels.min(0), *pixels.max(0)] == pytest.approx(one.box)


def test_cvat_takes_its_xml(photos: Path, tmp_path: Path) -> None:
    """By the published description of CVAT for images 1.1: attributes of images, boxes and polygons."""
    wanted: Mapping[str, tuple[str, ...]] = {
        "box": ("label", "occluded", "source", "xtl", "ytl", "xbr", "ybr", "z_order"),
        "polygon": ("label", "occluded", "source", "points", "z_order"),
    }
    for masks, tag in ((False, "box"), (True, "polygon")):
        given = export(photos, masks=masks)
        root = ElementTree.parse(LABEL_FORMATS["cvat"](given, tmp_path)).getroot()
        assert root.findtext("version") == "1.1"
        assert [one.findtext("name") for one in root.iter("label")] == list(NAMES)
        assert [one.get("name") for one in root.findall("image")] == [one.file for one in given]
        assert [one.get("id") for one in root.findall("image")] == ["0", "1", "2"]
        shapes = [shape for one in root.findall("image") for shape in one]
        assert {shape.tag for shape in shapes} == {tag}
        for shape in shapes:
            assert set(shape.keys()) == set(wanted[tag])
        if masks:
            assert all(re.fullmatch(r"(-?[\d.]+,-?[\d.]+;?)+", shape.get("points") or "") for shape in shapes)


def test_a_line_of_the_journal_gives_its_picture_back(photos: Path) -> None:
    for masks in (False, True):
        for picture in export(photos, masks=masks):
            assert LabelledPicture.from_line(picture.to_line()) == picture
    assert object_of("a.png", 0, masks=True).area == mask_of("a.png", 0).sum()
    box = object_of("a.png", 0, masks=False)
    assert box.area == (box.box[2] - box.box[0]) * (box.box[3] - box.box[1])
    with pytest.raises(ValueError, match="this object is a box and has no mask"):
        box.decode()


@pytest.mark.parametrize("name", LABEL_FORMATS)
def test_pictures_of_one_stem_keep_their_own_labels(name: str, tmp_path: Path) -> None:
    files = ("a.jpg", "a.png", "sub/A.png", "sub/a.jpg")
    for place, file in enumerate(files):
        (tmp_path / "photos" / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (60 * place, 0, 0)).save(tmp_path / "photos" / file)
    pictures = [
        LabelledPicture(
            file=file, path=tmp_path / "photos" / file, size=(30, 40),
            objects=(LabelledObject(label=0, box=(2.0, 2.0, 10.0 + 5 * place, 20.0), score=0.5),),
        )
        for place, file in enumerate(files)
    ]  # fmt: skip
    LABEL_FORMATS[name](Export(pictures=pictures, names=NAMES, tolerance=0.0), tmp_path / "out")
    table = read_instances(
        tmp_path / "out" / WRITTEN[name], images=tmp_path / ("out/images" if "yolo" in name else "photos")
    )
    assert sorted(table.boxes_N4[:, 2].round(2).tolist()) == [8.0, 13.0, 18.0, 23.0]
    assert len({table.images[image].file.casefold() for image in table.image_N.tolist()}) == 4


def test_pascal_voc_as_its_kit_counts(photos: Path, tmp_path: Path) -> None:
    """Whole pixels from 1, both ends inside: as xml.etree and our reader of the split see them."""
    height, width = SIZES["a.png"]
    boxes = {
        (0.0, 0.0, width, height): (1, 1, width, height),  # the whole picture
        (3.4, 4.6, 10.4, 20.6): (4, 6, 10, 21),  # each corner at the edge that is nearest
        (width - 0.2, height - 0.2, width, height): (width, height, width, height),  # less than a pixel
        (-2.0, -3.0, 5.0, 6.0): (1, 1, 5, 6),  # beyond the picture
    }
    objects = tuple(LabelledObject(label=place % 3, box=box, score=0.5) for place, box in enumerate(boxes))
    pictures = [
        LabelledPicture(file="a.png", path=photos / "a.png", size=(height, width), objects=objects),
        LabelledPicture(file="sub/b b.png", path=photos / "sub/b b.png", size=SIZES["sub/b b.png"], objects=()),
    ]
    out = LABEL_FORMATS["voc"](Export(pictures=pictures, names=NAMES, tolerance=0.0), tmp_path / "voc")
    root = ElementTree.parse(out / "Annotations" / "a.xml").getroot()
    assert (root.tag, root.findtext("filename")) == ("annotation", "a.png")
    assert [root.findtext(f"size/{side}") for side in ("width", "height", "depth")] == [str(width), str(height), "3"]
    found = [
        (
            one.findtext("name"),
            tuple(int(one.findtext(f"bndbox/{key}") or 0) for key in ("xmin", "ymin", "xmax", "ymax")),
        )
        for one in root.iter("object")
    ]
    assert found == [(NAMES[place % 3], corners) for place, corners in enumerate(boxes.values())]
    assert {one.findtext("difficult") for one in root.iter("object")} == {"0"}
    split = out / "ImageSets" / "Main" / "trainval.txt"
    assert split.read_text().splitlines() == ["a", "sub/b b"]
    assert (out / "JPEGImages" / "sub" / "b b.png").resolve() == (photos / "sub" / "b b.png").resolve()
    table = read_instances(split)
    edges = [[x0 - 1, y0 - 1, x1, y1] for x0, y0, x1, y1 in boxes.values()]
    read = [[x, y, x + w, y + h] for _, (x, y, w, h) in rows(table)["a.png"]]
    assert read == edges
    assert rows(table)["sub/b b.png"] == []
