"""Splits, boxes and jitter: exact lists, and every pixel where its box says."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.support.detection import NAMES, write_blocks

from clipself.data import CocoDetection, DetectionDataset, Preprocess, split_classes, write_split
from clipself.data.detection import collate_detection, stack_padded
from clipself.data.jitter import SquareCanvas, jitter, letterbox
from clipself.text.vocabulary import load_vocabulary

PLAIN = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
NOVEL_IDS = (5, 6, 17, 18, 21, 22, 28, 32, 36, 41, 47, 49, 61, 63, 76, 81, 87)
NEITHER = ("traffic light", "stop sign", "wine glass", "cell phone", "potted plant", "dining table")


def coco_categories() -> list[dict[str, Any]]:
    vocab = load_vocabulary("coco_80")
    return [{"id": category, "name": name} for category, name in zip(vocab.ids, vocab.names, strict=True)]


def test_ov_coco_is_the_published_split() -> None:
    classes = split_classes(coco_categories(), split="ov-coco")
    assert (len(classes.base), len(classes.novel)) == (48, 17)
    assert tuple(classes.groups()["novel"]) == NOVEL_IDS
    assert list(classes.ids) == sorted(classes.ids)
    assert not set(NEITHER) & set(classes.names)


def test_ov_lvis_holds_out_what_is_rare() -> None:
    vocab = load_vocabulary("lvis_v1_1203")
    rows = [{"id": category, "name": name} for category, name in zip(vocab.ids, vocab.names, strict=True)]
    classes = split_classes(rows, split="ov-lvis")
    assert (len(classes.base), len(classes.novel)) == (866, 337)
    novel = {vocab.names[place] for place, letter in enumerate(vocab.frequency) if letter == "r"}
    assert set(classes.novel) == novel


def test_splits_of_ones_own(tmp_path: Path) -> None:
    rows = [{"id": place, "name": name} for place, name in enumerate(NAMES)]
    assert split_classes(rows).novel == []
    assert split_classes(rows, novel=["fish"]).base == ["cat", "dog", "bird"]
    only = split_classes(rows, base=["cat"], novel=["fish"])
    assert (only.names, only.is_base) == (("cat", "fish"), (True, False))
    (tmp_path / "base.txt").write_text("dog\n")
    assert split_classes(rows, base=tmp_path / "base.txt").names == ("dog",)
    for wrong, message in (
        ({"base": ["cow"]}, "the base name 'cow' is not a category of the file"),
        ({"base": ["cat"], "novel": ["cat"]}, "'cat' of the file is listed as base and as novel"),
        ({"novel": list(NAMES)}, "no class is left to train on"),
        ({"split": "ov-voc"}, "unknown split 'ov-voc', expected one of"),
    ):
        with pytest.raises(ValueError, match=message):
            split_classes(rows, **wrong)


def instances(tmp_path: Path, rows: list[dict[str, Any]], *, size: tuple[int, int] = (64, 64)) -> Path:
    """Two pictures with these annotations, COCO's 80 categories."""
    for number in (1, 2):
        Image.new("RGB", (size[1], size[0])).save(tmp_path / f"{number}.png")
    images = [{"id": number, "file_name": f"{number}.png", "height": size[0], "width": size[1]} for number in (1, 2)]
    filled = [{"id": place, "iscrowd": 0, "area": 1.0, **row} for place, row in enumerate(rows, start=1)]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": filled, "categories": coco_categories()}))
    return path


BOXES = [
    {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]},  # person: base
    {"image_id": 1, "category_id": 17, "bbox": [5, 5, 10, 10]},  # cat: novel
    {"image_id": 1, "category_id": 3, "bbox": [20, 20, 30, 30], "iscrowd": 1},
    {"image_id": 1, "category_id": 3, "bbox": [30, 30, 1, 1]},  # one pixel stays
    {"image_id": 1, "category_id": 3, "bbox": [30, 30, 0.5, 9]},  # less does not
    {"image_id": 2, "category_id": 17, "bbox": [5, 5, 10, 10]},
    {"image_id": 2, "category_id": 10, "bbox": [5, 5, 10, 10]},  # traffic light: neither
]


def test_training_sees_base_boxes_alone(tmp_path: Path) -> None:
    path = instances(tmp_path, BOXES)
    train = CocoDetection(path, tmp_path, split="ov-coco")
    assert train.ids == [1]
    assert train.boxes(0).tolist() == [[0, 0, 10, 10], [30, 30, 31, 31]]
    assert [train.classes.names[label] for label in train.labels(0)] == ["person", "car"]
    counted = {name: int(n) for name, n in zip(train.classes.names, train.images_of_classes(), strict=True) if n}
    assert counted == {"person": 1, "car": 1}
    test = CocoDetection(path, tmp_path, split="ov-coco", train=False)
    counted = {name: int(n) for name, n in zip(test.classes.names, test.images_of_classes(), strict=True) if n}
    assert counted == {"person": 1, "cat": 2, "car": 1}
    assert test.ids == [1, 2]
    assert [test.classes.names[label] for label in test.labels(0)] == ["person", "cat", "car"]
    assert CocoDetection(path, tmp_path, split="ov-coco", keep_empty=True).ids == [1, 2]
    with pytest.raises(ValueError, match="no box of a base class in an image of at least 32 px"):
        CocoDetection(instances(tmp_path, BOXES[1:3]), tmp_path, split="ov-coco")
    with pytest.raises(ValueError, match="has boxes without masks; train without a mask head"):
        CocoDetection(instances(tmp_path, BOXES), tmp_path, split="ov-coco", masks=True)


def test_the_written_split_is_what_training_and_evaluation_read(tmp_path: Path) -> None:
    path = instances(tmp_path, BOXES)
    train, classes = write_split(path, tmp_path / "train.json", train=True, split="ov-coco")
    val, _ = write_split(path, tmp_path / "val.json", train=False, split="ov-coco")
    held, tested = json.loads(train.read_text()), json.loads(val.read_text())
    assert [row["id"] for row in held["images"]] == [1]
    assert {row["category_id"] for row in held["annotations"]} == {1, 3}
    assert len(held["categories"]) == len(classes.names) == 65
    assert [row["id"] for row in tested["images"]] == [1, 2]
    assert {row["category_id"] for row in tested["annotations"]} == {1, 3, 17}
    with pytest.raises(ValueError, match=r"list\.json is an empty list; pass a COCO instances file"):
        write_split(_json(tmp_path / "list.json", []), tmp_path / "x.json", train=True)


def _json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_lvis_files_have_no_file_names(tmp_path: Path) -> None:
    (tmp_path / "val2017").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "val2017" / "7.jpg")
    image = {"id": 7, "coco_url": "http://images.cocodataset.org/val2017/7.jpg", "height": 40, "width": 40}
    box = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81}
    held = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    assert CocoDetection(_json(tmp_path / "lvis.json", held), tmp_path).paths[0].name == "7.jpg"


@pytest.mark.parametrize("scales", [(0.3, 0.3), (1.0, 1.0), (2.0, 2.0), (0.1, 2.0)], ids=str)
def test_boxes_and_masks_stay_on_their_pixels(scales: tuple[float, float]) -> None:
    """A white block on black: where the box says there is white, and outside there is none."""
    pixels = np.zeros((90, 120, 3), np.uint8)
    pixels[30:60, 40:80] = 255
    image, box = Image.fromarray(pixels), torch.tensor([[40.0, 30.0, 80.0, 60.0]])
    for seed in range(6):
        framed = jitter(image, side=96, scales=scales, flip=0.5, rng=random.Random(seed))
        (moved,) = framed.boxes(box)
        assert max(framed.image.size) <= 96
        mask = framed.mask(torch.from_numpy(pixels[..., 0] > 0), canvas=(96, 96))
        white: NDArray[np.bool_] = np.asarray(framed.image)[..., 0] > 127
        if not np.any(white):
            assert float((moved[2:] - moved[:2]).clamp(min=0).prod()) < 16
            continue
        rows, cols = np.nonzero(np.any(white, axis=1))[0], np.nonzero(np.any(white, axis=0))[0]
        found = torch.tensor([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1], dtype=torch.float32)
        assert float((moved - found).abs().max()) <= 1.5
        same: NDArray[np.bool_] = mask.numpy()[: white.shape[0], : white.shape[1]] == white
        assert np.mean(same) > 0.98


def test_letterbox_keeps_the_ratio() -> None:
    framed = letterbox(Image.new("RGB", (200, 50)), side=64)
    assert framed.image.size == (64, 16)
    torch.testing.assert_close(framed.boxes(torch.tensor([[0.0, 0.0, 200.0, 50.0]])), torch.tensor([[0.0, 0, 64, 16]]))


def test_samples_follow_from_seed_epoch_and_index(tmp_path: Path) -> None:
    source = CocoDetection(write_blocks(tmp_path, 3), tmp_path / "pictures", masks=True)
    framing = SquareCanvas(side=64, preprocess=PLAIN, scales=(0.1, 2.0), flip=0.5)
    dataset = DetectionDataset(source, framing, seed=4, views=2)
    first, again, later, back = (dataset[key] for key in ((0, 1), (0, 1), (1, 1), (2, 1)))
    assert torch.equal(first.image_3HW, again.image_3HW)
    assert not torch.equal(first.image_3HW, later.image_3HW)
    assert torch.equal(first.image_3HW, back.image_3HW)  # two views: the third epoch shows the first again
    assert (first.row, later.row, back.row) == (2, 3, 2)
    batch = collate_detection([first, later])
    assert batch.masks is not None
    assert [len(masks) for masks in batch.masks] == [len(boxes) for boxes in batch.boxes]
    # padding is zero after the normalisation, which plain black is not
    height, width = first.size
    assert float(first.image_3HW[:, height:].abs().sum() + first.image_3HW[:, :, width:].abs().sum()) == 0.0
    with pytest.raises(ValueError, match="must ascend and be above 0"):
        SquareCanvas(side=64, preprocess=PLAIN, scales=(2.0, 1.0))


def test_images_of_several_sizes_are_padded_to_the_largest() -> None:
    stacked = stack_padded([torch.ones(3, 2, 5), torch.ones(3, 4, 1)])
    assert stacked.shape == (2, 3, 4, 5)
    assert stacked.sum(dim=(1, 2, 3)).tolist() == [30.0, 12.0]
    assert stacked[0, :, 2:].sum() == stacked[1, :, :, 1:].sum() == 0


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (80, 40))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    row = {"id": 1, "file_name": "turned.jpg", "height": 80, "width": 40}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 80], "area": 3200}
    held = {"images": [row], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    source = CocoDetection(_json(tmp_path / "a.json", held), tmp_path)
    sample = DetectionDataset(source, SquareCanvas(side=64, preprocess=PLAIN))[0]
    assert sample.size == (64, 32)
    assert sample.boxes.tolist() == [[0, 0, 32, 64]]


def test_boxes_that_are_not_finite(tmp_path: Path) -> None:
    path = instances(tmp_path, [{"image_id": 1, "category_id": 1, "bbox": [float("nan"), 0, 10, 10]}])
    with pytest.raises(ValueError, match=r"annotations\[0\] \(id 1\): .* is not finite .*, picture 1\.png"):
        CocoDetection(path, tmp_path, split="ov-coco")


@pytest.mark.filterwarnings("ignore:DetectionDataset:FutureWarning")
def test_a_canvas_may_be_told_as_before(tmp_path: Path) -> None:
    source = CocoDetection(write_blocks(tmp_path, 2), tmp_path / "pictures")
    told = DetectionDataset(source, preprocess=PLAIN, side=64, seed=4)[(1, 1)]
    framed = DetectionDataset(source, SquareCanvas(side=64, preprocess=PLAIN, scales=(0.1, 2.0), flip=0.5), seed=4)
    assert torch.equal(told.image_3HW, framed[(1, 1)].image_3HW)
    with pytest.raises(TypeError, match="'side' is a setting of the framing"):
        DetectionDataset(source, framed.framing, side=64)
