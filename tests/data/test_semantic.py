"""Labelled sets: index maps, panoptic files, scenes, some classes of them; crops; official archives."""

import json
import random
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipself.data.images import IGNORED_16, read_index_map, write_index_map
from clipself.data.prepare import ARCHIVES, archive_help, prepare
from clipself.data.scenes.draw import CLASSES, SceneMaker
from clipself.data.scenes.export import write_scenes
from clipself.data.semantic import (
    IndexMaps,
    SceneMaps,
    SomeClasses,
    names_to_segment,
    open_semantic,
    tell_absent_classes,
)
from clipself.data.semantic_training import (
    Augmentation,
    SemanticCrops,
    change_colours,
    collate_semantic,
    keep_classes,
    shortest_size,
)
from clipself.text.vocabulary import load_vocabulary


def write_pair(folder: Path, name: str, values: Any, *, images: str = "images", labels: str = "labels") -> None:
    values = np.asarray(values)
    for part, picture in ((images, Image.new("RGB", values.shape[::-1], (10, 20, 30))), (labels, None)):
        path = folder / part / f"{name}.{'jpg' if picture else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if picture:
            picture.save(path)
        else:
            write_index_map(path, values)


def test_index_maps_of_8_and_16_bits(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", [[0, 1], [2, 255]])
    (tmp_path / "names.txt").write_text("cat\ndog\nsky\n")
    data = open_semantic(tmp_path)
    assert data.class_names == ["cat", "dog", "sky"]
    assert data.read(0).labels_HW.tolist() == [[0, 1], [2, 255]]
    wide = np.array([[0, 300], [846, 65535]])
    write_index_map(tmp_path / "wide.png", wide)
    assert (read_index_map(tmp_path / "wide.png") == wide).all()


def test_pictures_and_maps_out_of_archives_of_two_systems_meet(tmp_path: Path) -> None:
    write_pair(tmp_path, "caf\u00e9", [[0, 1], [1, 255]])
    (map_there,) = (tmp_path / "labels").iterdir()
    map_there.rename(map_there.with_name(unicodedata.normalize("NFD", map_there.name)))
    data = IndexMaps(tmp_path / "images", tmp_path / "labels", ["cat", "dog"])
    assert data.read(0).labels_HW.tolist() == [[0, 1], [1, 255]]
    assert not data.report.remarks


def test_maps_that_count_from_one(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", [[0, 1], [2, 255]])
    data = IndexMaps(tmp_path / "images", tmp_path / "labels", ["cat", "dog"], shift=-1)
    assert data.read(0).labels_HW.tolist() == [[255, 0], [1, 255]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param([[0, 7]], "holds the class 7, there are 2 names", id="no-such-class"),
    ],
)
def test_wrong_values_are_said(tmp_path: Path, values: Any, said: str) -> None:
    write_pair(tmp_path, "a", values)
    with pytest.raises(ValueError, match=said):
        IndexMaps(tmp_path / "images", tmp_path / "labels", ["cat", "dog"]).read(0)


def test_wrong_folders_and_sizes_are_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder at"):
        IndexMaps(tmp_path / "images", tmp_path / "labels", ["cat"])
    write_pair(tmp_path, "a", [[0, 0]])
    write_index_map(tmp_path / "labels" / "a.png", np.zeros((3, 3), dtype=np.int64))
    with pytest.raises(ValueError, match=r"a\.png is 3 x 3 pixels, its picture .*a\.jpg is 2 x 1"):
        IndexMaps(tmp_path / "images", tmp_path / "labels", ["cat"]).read(0)
    (tmp_path / "labels" / "a.png").rename(tmp_path / "labels" / "b.png")
    with pytest.raises(ValueError, match="none of the 1 pictures"):
        IndexMaps(tmp_path / "images", tmp_path / "labels", ["cat"])
    with pytest.raises(ValueError, match="is no labelled set"):
        open_semantic(tmp_path)
    with pytest.raises(ValueError, match="needs the folder of its pictures"):
        open_semantic(tmp_path / "panoptic.json")
    Image.new("RGB", (2, 2), (0, 1, 2)).save(tmp_path / "colour.png")
    with pytest.raises(ValueError, match="has 3 channels"):
        read_index_map(tmp_path / "colour.png")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param(
            [[0, 255], [0, 0]], r"the 3 label maps hold no pixel of cat; 25 % of the pixels are 255", id="0-255"
        ),
        pytest.param([[0, 0], [0, 0]], r"hold no pixel of cat; 0 % of the pixels", id="one-class"),
        pytest.param([[0, 1], [0, 0]], None, id="both"),
    ],
)
def test_classes_that_never_occur_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, values: Any, said: str | None
) -> None:
    for name in "abc":
        write_pair(tmp_path, name, values)
    data = IndexMaps(tmp_path / "images", tmp_path / "labels", ["ground", "cat"])
    SemanticCrops(data, Augmentation(crop=4, shortest=(4,)))
    assert re.search(said, caplog.text) if said else "hold no pixel" not in caplog.text


def test_training_on_nothing_is_refused_and_large_sets_are_looked_at_in_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        write_pair(tmp_path, str(number), [[255, 255 if number else 0]])
    data = IndexMaps(tmp_path / "images", tmp_path / "labels", ["ground", "cat"])
    tell_absent_classes(data, most=2)
    assert "2 of 5 label maps looked at hold no pixel of cat" in caplog.text
    (tmp_path / "images" / "0.jpg").unlink()
    data = IndexMaps(tmp_path / "images", tmp_path / "labels", ["ground", "cat"])
    with pytest.raises(ValueError, match=r"no pixel of the 4 label maps is of any class.* 100 % of the pixels are 255"):
        SemanticCrops(data, Augmentation(crop=4, shortest=(4,)))


def test_scenes_on_disk_as_panoptic_file_equal_scenes_in_memory(tmp_path: Path) -> None:
    write_scenes(tmp_path, train=1, val=2, size=(96, 96))
    data = open_semantic(tmp_path / "annotations" / "panoptic_val.json", images=tmp_path / "val")
    drawn = SceneMaps(SceneMaker(size=(96, 96), seed="val/0"), 2)
    assert data.class_names == drawn.class_names == list(CLASSES)
    for index in range(2):
        assert torch.equal(data.read(index).labels_HW, drawn.read(index).labels_HW)


def test_other_classes_are_ignored_and_the_kept_ones_renumbered() -> None:
    whole = SceneMaps(SceneMaker(size=(96, 96)), 3)
    kept = [name for name in CLASSES if name not in ("cat", "sky", "grass")][::-1]
    some = SomeClasses(whole, kept)
    assert some.class_names == kept[::-1]
    for index in range(3):
        before, after = whole.read(index).labels_HW, some.read(index).labels_HW
        for value in torch.unique(before).tolist():
            name, new = CLASSES[value], torch.unique(after[before == value]).tolist()
            assert new == ([some.class_names.index(name)] if name in kept else [255])
    with pytest.raises(ValueError, match="'unicorn' is not a class of the data"):
        SomeClasses(whole, ["unicorn"])


def test_crops_repeat_themselves_and_keep_pixels_with_their_labels() -> None:
    data = SceneMaps(SceneMaker(size=(96, 128)), 2)
    how = Augmentation(crop=64, shortest=(96,), colour=False)
    crops = SemanticCrops(data, how, seed=3)
    first, again = crops[(0, 1)], crops[(0, 1)]
    assert torch.equal(first.pixels_B3HW, again.pixels_B3HW)
    assert not torch.equal(first.labels_BHW, crops[(1, 1)].labels_BHW)
    whole = torch.from_numpy(np.array(data.read(1).image)).permute(2, 0, 1).float()
    labels = data.read(1).labels_HW
    found = [
        (y, x, mirrored)
        for y in range(33) for x in range(65) for mirrored in (False, True)
        if torch.equal(cut(whole, y, x, mirrored), first.pixels_B3HW[0])
    ]  # fmt: skip
    assert len(found) == 1
    assert torch.equal(cut(labels, *found[0]), first.labels_BHW[0])


def cut(values: torch.Tensor, y: int, x: int, mirrored: bool) -> torch.Tensor:
    part = values[..., y : y + 64, x : x + 64]
    return part.flip(-1) if mirrored else part


def test_small_pictures_are_padded_with_grey_that_counts_nowhere() -> None:
    crops = SemanticCrops(
        SceneMaps(SceneMaker(size=(64, 64)), 1), Augmentation(crop=96, shortest=(64,), flip=0, colour=False)
    )
    batch = collate_semantic([crops[(0, 0)], crops[(1, 0)]])
    assert batch.pixels_B3HW.shape == (2, 3, 96, 96)
    assert (batch.pixels_B3HW[:, :, 64:] == 128).all()
    assert (batch.labels_BHW[:, 64:] == 255).all()
    assert (batch.labels_BHW[:, :64, :64] != 255).all()


def test_sizes_and_renumbering() -> None:
    assert shortest_size((100, 200), 50, longest=1000) == (50, 100)
    assert shortest_size((100, 400), 100, longest=200) == (50, 200)
    labels = torch.tensor([0, 1, 2, 255])
    assert keep_classes(labels, [2, 0], ignore_label=255).tolist() == [1, 255, 0, 255]


def test_colours_change_by_chance_that_repeats_itself() -> None:
    image = Image.new("RGB", (4, 4), (120, 60, 200))
    changed = [np.asarray(change_colours(image, random.Random(seed)))[0, 0].tolist() for seed in range(12)]
    assert len({tuple(one) for one in changed}) > 6
    assert changed == [np.asarray(change_colours(image, random.Random(seed)))[0, 0].tolist() for seed in range(12)]


def write_archive(root: Path, name: str) -> None:
    """Two pictures in the layout of an official archive."""
    if name == "coco-stuff":
        for split in ("train", "val"):
            write_pair(root, f"{split}2017/1", [[0, 89], [181, 255]], labels="annotations")
    elif name == "ade20k-150":
        write_pair(root, "validation/1", [[0, 1], [150, 150]], labels="annotations")
    elif name.startswith("voc"):
        write_pair(root, "1", [[0, 1], [20, 255]], images="JPEGImages", labels="SegmentationClass")
        lists = root / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        (lists / "val.txt").write_text("1\n")
    elif name == "pascal-context-59":
        write_pair(root, "1", [[0, 0], [0, 0]], images="JPEGImages")
        rows = [
            {"image_id": 5, "category_id": number, "segmentation": {"size": [2, 2], "counts": counts}}
            for number, counts in ((2, [0, 2, 2]), (9, [2, 1, 1]), (1, [3, 1]))
        ]
        images = [{"image_id": 5, "file_name": "1.jpg", "phase": "val", "height": 2, "width": 2}]
        (root / "trainval_merged.json").write_text(json.dumps({"images": images, "annos_segmentation": rows}))
    elif name == "pascal-context-459":
        from scipy.io import savemat

        write_pair(root, "1", [[0, 0], [0, 0]], images="JPEGImages")
        (root / "trainval").mkdir()
        savemat(root / "trainval" / "1.mat", {"LabelMap": np.array([[1, 459], [460, 2]], dtype=np.uint16)})
        (root / "labels.txt").write_text("".join(f"{n}: thing {n}\n" for n in range(1, 461)))
        (root / "pascalcontext_val.txt").write_text("1\n")
    elif name == "ade20k-847":
        for folder, numbers in (("training", (1, 300, 2)), ("validation", (1, 300, 5))):
            place = root / "images" / "ADE" / folder / "a"
            place.mkdir(parents=True)
            colour = np.zeros((1, 4, 3), dtype=np.uint8)
            for x, number in enumerate(numbers):
                colour[0, x] = (number // 256 * 10, number % 256, 0)
            Image.fromarray(colour).save(place / "x_seg.png")
            Image.new("RGB", (4, 1)).save(place / "x.jpg")
            objects = [{"name_ndx": number, "name": f"name {number}"} for number in numbers]
            (place / "x.json").write_text(json.dumps({"annotation": {"object": objects}}))


EXPECTED = {
    "coco-stuff": ([[0, 79], [170, 255]], 171),
    "ade20k-150": ([[255, 0], [149, 149]], 150),
    "ade20k-847": ([[0, 1, IGNORED_16, IGNORED_16]], 2),
    "pascal-context-59": ([[0, 1], [0, 255]], 59),
    "pascal-context-459": ([[0, 458], [IGNORED_16, 1]], 459),
    "voc-20": ([[255, 0], [19, 255]], 20),
    "voc-21": ([[0, 1], [20, 255]], 21),
    "voc-20b": ([[20, 0], [19, 255]], 21),
}


@pytest.mark.parametrize("name", sorted(ARCHIVES))
def test_archives_are_read_as_published(tmp_path: Path, name: str) -> None:
    write_archive(tmp_path / "root", name)
    folder = prepare(name, tmp_path / "root", tmp_path / "out", partial_archive=True)
    data = open_semantic(folder)
    labels, classes = EXPECTED[name]
    assert data.read(0).labels_HW.tolist() == labels
    assert len(data.class_names) == classes
    if name == "voc-20b":
        assert names_to_segment(data)[:20] == data.class_names[:20]
        assert len(names_to_segment(data)) == 59
    if name == "ade20k-847":
        assert data.class_names == ["name 1", "name 300"]


def test_archives_in_part_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    write_archive(tmp_path, "ade20k-150")
    with pytest.raises(ValueError, match="ade20k-150 val has 1 maps, the official split 2000"):
        prepare("ade20k-150", tmp_path, tmp_path / "out")
    (tmp_path / "images" / "validation" / "1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="unpack the pictures there too"):
        prepare("ade20k-150", tmp_path, tmp_path / "out", partial_archive=True)
    with pytest.raises(FileNotFoundError, match="no folder at"):
        prepare("coco-stuff", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no list at"):
        prepare("voc-20", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ValueError, match="unknown archive 'ade'"):
        prepare("ade", tmp_path, tmp_path / "out")
    assert len(list(archive_help())) == len(ARCHIVES)


@pytest.mark.parametrize("stem", ["/tmp/pictures/x", "../../x", "a/../../x", "."])
def test_lists_cannot_lead_out_of_the_folder(tmp_path: Path, stem: str) -> None:
    write_archive(tmp_path / "root", "voc-20")
    (tmp_path / "x.png").write_bytes(b"mine")
    (tmp_path / "root" / "ImageSets" / "Segmentation" / "val.txt").write_text(f"{stem}\n")
    with pytest.raises(ValueError, match=r"voc-20 lists the map .* leads out of its folder"):
        prepare("voc-20", tmp_path / "root", tmp_path / "out", partial_archive=True)
    assert (tmp_path / "x.png").read_bytes() == b"mine"


def test_names_of_coco_stuff() -> None:
    vocab = load_vocabulary("coco_stuff_171")
    assert (len(vocab), sum(vocab.is_thing)) == (171, 80)
    assert (vocab.names[0], vocab.names[79], vocab.names[80], vocab.names[170]) == (
        "person", "toothbrush", "banner", "wood",
    )  # fmt: skip
    assert vocab.ids[80:] == tuple(range(92, 183))
