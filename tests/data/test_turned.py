"""Labels of pictures that their EXIF tag turns: where no size tells how they were drawn, that is said, once."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipself.data.detection import CocoDetection, DetectionDataset
from clipself.data.images import read_image
from clipself.data.images.read import orientation_of, turned
from clipself.data.jitter import SquareCanvas
from clipself.data.labelled import CocoInstances
from clipself.data.panoptic import PanopticFile
from clipself.data.preprocess import Preprocess
from clipself.data.semantic import IndexMaps

PLAIN = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SAID = "is stored upside down and turned by its EXIF tag; its labels are taken to be drawn on the upright picture"


def make_world(folder: Path, way: int, *, size: tuple[int, int] = (48, 40)) -> Path:
    """Two pictures with boxes, segments and index maps."""
    tag = Image.Exif()
    tag[0x0112] = way
    upright = size if way < 5 else size[::-1]
    for part in ("images", "labels", "panoptic"):
        (folder / part).mkdir()
    for number in range(2):
        Image.new("RGB", size, (90 * number, 0, 40)).save(folder / "images" / f"{number}.jpg", exif=tag)
        ids = np.zeros((upright[1], upright[0], 3), dtype=np.uint8)
        ids[..., 0] = 1
        Image.fromarray(ids).save(folder / "panoptic" / f"{number}.png")
        Image.fromarray(ids[..., 0] - 1).save(folder / "labels" / f"{number}.png")
    images = [{"id": n, "file_name": f"{n}.jpg", "width": upright[0], "height": upright[1]} for n in range(2)]
    box = {"category_id": 1, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
    held = {"images": images, "categories": [{"id": 1, "name": "cat", "isthing": 1}]}
    (folder / "boxes.json").write_text(json.dumps({**held, "annotations": [{**box, "image_id": n} for n in range(2)]}))
    rows = [{"image_id": n, "file_name": f"{n}.png", "segments_info": [{**box, "id": 1}]} for n in range(2)]
    (folder / "panoptic.json").write_text(json.dumps({**held, "annotations": rows}))
    return folder


def read_all(folder: Path, kind: str) -> None:
    if kind == "boxes to learn":
        framing = SquareCanvas(side=64, preprocess=PLAIN)
        data = DetectionDataset(CocoDetection(folder / "boxes.json", folder / "images"), framing)
        data[0], data[1]
    elif kind == "boxes to find":
        found = CocoDetection(folder / "boxes.json", folder / "images", train=False)
        for index in range(2):
            image = read_image(found.paths[index])
            found.check_size(index, (image.height, image.width))
    else:
        source: CocoInstances | PanopticFile | IndexMaps
        if kind == "regions":
            source = CocoInstances(folder / "boxes.json", folder / "images")
        elif kind == "segments":
            source = PanopticFile(folder / "panoptic.json", folder / "images")
        else:
            source = IndexMaps(folder / "images", folder / "labels", ["cat"])
        source.read(0), source.read(1)


@pytest.mark.parametrize("kind", ["boxes to learn", "boxes to find", "regions", "segments", "maps"])
def test_what_no_size_can_tell_is_said_once(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for way, told in ((1, 0), (3, 1), (6, 0)):  # of one on its side the sizes tell
        (tmp_path / str(way)).mkdir()
        folder = make_world(tmp_path / str(way), way)
        caplog.clear()
        read_all(folder, kind)
        assert caplog.text.count(SAID) == told


def test_of_squares_no_size_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_all(make_world(tmp_path, 6, size=(40, 40)), "regions")
    assert "is stored on its side and turned by its EXIF tag" in caplog.text


def test_a_picture_knows_how_it_was_stored(tmp_path: Path) -> None:
    folder = make_world(tmp_path, 8)
    assert orientation_of(folder / "images" / "0.jpg") == turned(read_image(folder / "images" / "0.jpg")) == 8
    assert turned(read_image(read_image(folder / "images" / "0.jpg"))) == 8  # it is not turned once more
    assert turned(Image.new("RGB", (2, 2))) == 1
