import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.panoptic import NAMES, draw_world, write_world

from clipself.data.images import read_segment_ids
from clipself.data.mask_batches import MaskDataset, collate_masks
from clipself.data.panoptic import PanopticFile, PanopticWriter, ScenePanoptic, mask_targets
from clipself.data.preprocess import Preprocess
from clipself.data.scenes.draw import SceneMaker
from clipself.structures import Panoptic, PanopticSegment

PLAIN = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.mark.parametrize("first_class", [pytest.param(1, id="coco-from-1"), pytest.param(0, id="ade20k-from-0")])
def test_a_panoptic_file_is_read_as_it_was_drawn(tmp_path: Path, first_class: int) -> None:
    data = PanopticFile(*write_world(tmp_path, first_class=first_class, void=False))
    assert len(data) == 3
    assert (data.class_names, data.class_is_thing) == (list(NAMES), [True, True, False])
    truth = data.read(1)
    _, ids, labels = draw_world(1)
    np.testing.assert_array_equal(truth.ids_HW, ids)
    assert {segment.id: segment.label for segment in truth.segments} == labels
    assert (truth.labels_HW() == np.vectorize(labels.get)(ids)).all()
    assert data.occurring() == list(NAMES)


def test_void_and_crowds_are_no_masks_to_learn(tmp_path: Path) -> None:
    annotations, images = write_world(tmp_path)
    held = json.loads(annotations.read_text())
    held["annotations"][0]["segments_info"][1]["iscrowd"] = 1
    annotations.write_text(json.dumps(held))
    truth = PanopticFile(annotations, images).read(0)
    targets = mask_targets(truth)
    assert targets.labels_N.tolist() == [2, 1]
    assert not targets.masks_NHW[:, :3].any()
    assert (truth.labels_HW(void=9)[:3] == 9).all()


def test_pictures_with_classes_to_keep_unseen_are_left_out(tmp_path: Path) -> None:
    annotations, images = write_world(tmp_path)
    held = json.loads(annotations.read_text())
    held["annotations"][1]["segments_info"].pop(1)
    annotations.write_text(json.dumps(held))
    data = PanopticFile(annotations, images, without=["red box"])
    assert [Path(path).stem for path in data.paths] == ["000000000006"]
    assert data.occurring() == ["green box", "blue ground"]
    with pytest.raises(ValueError, match="has no class 'dog' to leave out"):
        PanopticFile(annotations, images, without=["dog"])


def test_ids_that_the_annotation_does_not_list_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    annotations, images = write_world(tmp_path, void=False)
    held = json.loads(annotations.read_text())
    dropped = [row["segments_info"].pop(1)["id"] for row in held["annotations"]]
    annotations.write_text(json.dumps(held))
    data = PanopticFile(annotations, images)
    caplog.clear()
    truth, _ = data.read(0), data.read(1)
    (said,) = [record.message for record in caplog.records]
    share = 100 * sum(one == dropped[0] for one in truth.ids_HW.ravel().tolist()) / truth.ids_HW.size
    assert f"such as {dropped[0]}, in {share:.1f} % of its pixels" in said


def test_segments_without_pixels_and_classes_that_do_not_say_what_they_are_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotations, images = write_world(tmp_path, void=False)
    held = json.loads(annotations.read_text())
    for row in held["annotations"]:
        row["segments_info"].append({**row["segments_info"][0], "id": 77})
    for row in held["categories"][:2]:
        del row["isthing"]
    annotations.write_text(json.dumps(held))
    data = PanopticFile(annotations, images)
    assert '2 classes do not say "isthing" and are taken for things (categories[0], categories[1])' in caplog.text
    caplog.clear()
    listed = len(data.rows[0].segments)
    data.read(0), data.read(1)
    (said,) = [record.message for record in caplog.records]
    assert f"holds no pixel of 1 of the {listed} segments that its annotation lists, such as 77" in said


def test_faults_of_files_are_named(tmp_path: Path) -> None:
    annotations, images = write_world(tmp_path)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match="pass a COCO panoptic file"):
        PanopticFile(tmp_path / "list.json", images)
    (tmp_path / "instances.json").write_text(
        json.dumps({"images": [], "annotations": [{"bbox": []}], "categories": []})
    )
    with pytest.raises(ValueError, match="is an instances file; pass a COCO panoptic file"):
        PanopticFile(tmp_path / "instances.json", images)
    draw_world(0, (50, 64))[0].save(images / "000000000005.png")
    with pytest.raises(ValueError, match="a map has the size of its picture"):
        PanopticFile(annotations, images).read(0)
    (tmp_path / "panoptic" / "000000000006.png").unlink()
    with pytest.raises(FileNotFoundError, match="segment PNGs"):
        PanopticFile(annotations, images)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    writer = PanopticWriter(tmp_path, class_ids=[3, 9], class_names=["cat", "sky"], class_is_thing=[True, False])
    ids = np.zeros((4, 6), dtype=np.int32)
    ids[:2, :3], ids[2:] = 1, 70000
    segments = (
        PanopticSegment(id=1, label=0, is_thing=True, score=0.5),
        PanopticSegment(id=70000, label=1, is_thing=False, score=1.0),
    )
    found = Panoptic(ids_HW=torch.from_numpy(ids), segments=segments)
    png = writer.add(found, image_id=12, file="some/cat.jpg", name="some/cat")
    held = json.loads(writer.close().read_text())
    np.testing.assert_array_equal(read_segment_ids(png), ids)
    (row,) = held["annotations"]
    assert (row["image_id"], row["file_name"]) == (12, "some/cat.png")
    assert held["images"] == [{"id": 12, "file_name": "some/cat.jpg", "height": 4, "width": 6}]
    first, second = row["segments_info"]
    assert (first["category_id"], first["isthing"], first["area"], first["bbox"]) == (3, 1, 6, [0, 0, 3, 2])
    assert (second["category_id"], second["isthing"], second["area"]) == (9, 0, 12)
    assert held["categories"][1] == {"id": 9, "name": "sky", "isthing": 0}


def test_scenes_have_no_void() -> None:
    data = ScenePanoptic(SceneMaker(size=(64, 64), seed=1), 2)
    truth = data.read(1)
    assert set(np.unique(truth.ids_HW)) == {segment.id for segment in truth.segments}
    assert not data.class_is_thing[truth.segments[-1].label]  # stuff comes last


def test_views_repeat_and_masks_follow_the_picture(tmp_path: Path) -> None:
    source = PanopticFile(*write_world(tmp_path, void=False))
    dataset = MaskDataset(source, preprocess=PLAIN, side=64, scales=(0.5, 2.0), flip=0.5, seed=3)
    for epoch in range(6):
        sample = dataset[epoch, 1]
        again = dataset[epoch, 1]
        assert torch.equal(sample.image_3HW, again.image_3HW)
        assert torch.equal(sample.targets.masks_NHW, again.targets.masks_NHW)
        for label, mask_HW in zip(sample.targets.labels_N, sample.targets.masks_NHW, strict=True):
            strongest = sample.image_3HW.argmax(0)[mask_HW]
            assert float((strongest == label).float().mean()) > 0.85  # red, green, blue in this order
    batch = collate_masks([dataset[0, 0], dataset[0, 1]])
    assert batch.images_B3HW.shape == (2, 3, 64, 64)
    assert len(batch.targets) == len(batch.to("cpu").names) == 2
