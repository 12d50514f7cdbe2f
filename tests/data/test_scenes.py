"""Generated scenes: always the same, and right about every pixel."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipself.data.labelled import CocoInstances, CocoPanoptic
from clipself.data.photographs import PHOTOS, load_photo
from clipself.data.scenes.art import NOVEL, THINGS, load_art
from clipself.data.scenes.draw import CLASSES, SceneMaker
from clipself.data.scenes.export import SceneImages, write_scenes
from clipself.data.scenes.textures import STUFF


def test_classes() -> None:
    assert len(THINGS) >= 80
    assert len(STUFF) >= 8
    assert len(set(CLASSES)) == len(CLASSES)
    assert set(THINGS) <= set(load_art())
    assert set(NOVEL) < set(THINGS)
    with pytest.raises(ValueError, match="unknown style 'oil', expected one of"):
        load_art("oil")


def test_a_scene_is_always_the_same_and_splits_differ() -> None:
    one, two, other = SceneMaker(seed="a")(7), SceneMaker(seed="a")(7), SceneMaker(seed="b")(7)
    assert one.image.tobytes() == two.image.tobytes()
    assert np.array_equal(one.panoptic_HW, two.panoptic_HW)
    assert one.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("index", range(4))
def test_boxes_and_areas_are_those_of_the_map(index: int) -> None:
    scene = SceneMaker(size=(96, 128))(index)
    assert scene.image.size == (128, 96)
    assert {int(i) for i in np.unique(scene.panoptic_HW)} == {segment.id for segment in scene.segments}
    for segment in scene.segments:
        pixels = [(x, y) for y in range(96) for x in range(128) if scene.panoptic_HW[y, x] == segment.id]
        xs, ys = [x for x, _ in pixels], [y for _, y in pixels]
        assert segment.box == (min(xs), min(ys), max(xs) + 1, max(ys) + 1)
        assert segment.area == len(pixels)
        assert segment.is_thing == (segment.name in THINGS)


def test_things_in_front_hide_those_behind() -> None:
    """Every thing owns its pixels alone, and none is hidden almost whole."""
    scenes = [SceneMaker()(index) for index in range(6)]
    things = [segment for scene in scenes for segment in scene.segments if segment.is_thing]
    assert len(things) > 12
    assert min(segment.area for segment in things) >= 20


def test_written_data_set_is_coco(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    folder = write_scenes(tmp_path, train=2, val=3, size=(96, 128))
    coco = COCO(str(folder / "annotations/instances_val.json"))
    assert len(coco.imgs) == 3
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert int(mask.sum()) == annotation["area"]
        ys, xs = mask.nonzero()
        assert annotation["bbox"] == [xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()]
    panoptic = CocoPanoptic(folder / "annotations/panoptic_val.json", folder / "val")
    drawn = SceneImages(SceneMaker(size=(96, 128), seed="val/0"), 3)
    for index in range(3):
        read, made = panoptic.read(index), drawn.read(index)
        assert read.masks_RHW is not None
        assert made.masks_RHW is not None
        assert read.labels_R.tolist() == made.labels_R.tolist()
        assert bool((read.masks_RHW == made.masks_RHW).all())
    assert len(CocoInstances(folder / "annotations/instances_train.json", folder / "train")) == 2
    assert (folder / "novel.txt").read_text().splitlines() == list(NOVEL)
    held = json.loads((folder / "annotations/panoptic_val.json").read_text())
    with Image.open(folder / "annotations/panoptic_val" / held["annotations"][0]["file_name"]) as png:
        colours = np.asarray(png).astype(int)
    ids = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
    assert {int(i) for i in np.unique(ids)} == {s["id"] for s in held["annotations"][0]["segments_info"]}


def test_other_scenes_are_never_mixed_in(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "s", train=2, val=1, size=(64, 64))
    before = (folder / "train" / "000001.jpg").read_bytes()
    (folder / "train" / "000001.jpg").unlink()  # a call that was stopped goes on
    write_scenes(folder, train=2, val=1, size=(64, 64))
    assert (folder / "train" / "000001.jpg").read_bytes() == before
    for other in ({"train": 1}, {"seed": 3}, {"size": (64, 96)}):
        with pytest.raises(FileExistsError, match=r"s holds scenes of .* choose another folder or delete it"):
            write_scenes(folder, **{"train": 2, "val": 1, "size": (64, 64), **other})  # type: ignore[arg-type]
    (folder / "scenes.json").unlink()
    with pytest.raises(FileExistsError, match=r"holds a data set without scenes\.json"):
        write_scenes(folder, train=2, val=1, size=(64, 64))


def test_scenes_that_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="unknown thing"):
        SceneMaker(things=("unicorn",))
    with pytest.raises(ValueError, match="too small for their things"):
        SceneMaker(size=(32, 320))


def test_photographs() -> None:
    assert set(PHOTOS) == {
        "astronaut", "cat", "china", "coffee", "flower", "goldfish", "moose", "panda", "raccoon", "rocket", "scissors",
        "wall", "windmill",
    }  # fmt: skip
    assert all(path.stat().st_size <= 100_000 for path in PHOTOS.values())
    assert load_photo("cat").mode == "RGB"
    licences = (PHOTOS["cat"].parent / "LICENSES.md").read_text()
    listed = {line.split("`")[1] for line in licences.splitlines() if line.startswith("| `")}
    assert listed == {f"{name}.jpg" for name in PHOTOS}
    rows = [line.split("|") for line in licences.splitlines() if line.startswith("| `")]
    assert all("public domain" in row[3] or "CC" in row[3] for row in rows)
    with pytest.raises(ValueError, match="unknown photograph 'dog'"):
        load_photo("dog")
