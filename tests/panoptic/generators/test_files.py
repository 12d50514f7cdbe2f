import json
from pathlib import Path

import pytest
import torch
from tests.support.panoptic import draw_world, write_world

from clipself.data.images import read_image
from clipself.metrics.mask_ap import encode_mask
from clipself.panoptic.generators.files import FileMasks
from clipself.panoptic.generators.mask_set import MaskSet
from clipself.panoptic.generators.table import open_generator


def test_masks_of_a_panoptic_file(tmp_path: Path) -> None:
    annotations, images = write_world(tmp_path, void=False)
    path = images / "000000000006.png"
    found = open_generator(annotations)(read_image(path), file=str(path), names=["any"])
    _, ids, labels = draw_world(1)
    assert [int((mask > 0).sum()) for mask in found.masks_QYX] == [int((ids == segment).sum()) for segment in labels]
    assert found.logits_QK is None
    assert found.void_Q.tolist() == [0.0] * 3


def test_masks_from_run_lengths_find_their_picture_by_name_or_number(tmp_path: Path) -> None:
    picture, ids, _ = draw_world(0)
    rows = [{"image_id": 12, "segmentation": encode_mask(ids == 300), "score": 0.75}]
    rows += [{"file_name": "cat.jpg", "segmentation": encode_mask(ids == 1000)}]
    (tmp_path / "masks.json").write_text(json.dumps(rows))
    masks = FileMasks(tmp_path / "masks.json")
    by_number = masks(picture, file="x/000000000012.jpg", names=[])
    assert torch.equal(by_number.masks_QYX[0] > 0, torch.from_numpy(ids == 300))
    assert by_number.void_Q.tolist() == [0.25]
    by_name = masks(picture, file="cat.jpg", names=[])
    assert torch.equal(by_name.masks_QYX[0] > 0, torch.from_numpy(ids == 1000))
    assert masks(picture, file="dog.jpg", names=[]).masks_QYX.shape == (0, 48, 64)


def test_a_folder_of_lists_as_sam_writes_them(tmp_path: Path) -> None:
    picture, ids, _ = draw_world(0)
    held = {"annotations": [{"segmentation": encode_mask(ids == 7), "predicted_iou": 0.9}]}
    (tmp_path / "sa_1.json").write_text(json.dumps(held))
    found = FileMasks(tmp_path)(picture, file="photos/sa_1.jpg", names=[])
    assert float(found.void_Q[0]) == pytest.approx(0.1)
    with pytest.raises(FileNotFoundError, match=r"holds no sa_2\.json"):
        FileMasks(tmp_path)(picture, file="sa_2.jpg", names=[])


def test_faults_are_named(tmp_path: Path) -> None:
    picture, ids, _ = draw_world(0)
    (tmp_path / "a.json").write_text(json.dumps([{"file_name": "a.jpg", "segmentation": encode_mask(ids[:9] == 7)}]))
    with pytest.raises(ValueError, match="masks belong to the picture at its own size"):
        FileMasks(tmp_path / "a.json")(picture, file="a.jpg", names=[])
    (tmp_path / "b.json").write_text(json.dumps({"categories": []}))
    with pytest.raises(ValueError, match="holds no masks"):
        FileMasks(tmp_path / "b.json")
    (tmp_path / "c.json").write_text(json.dumps([{"file_name": "a.jpg", "bbox": []}]))
    with pytest.raises(ValueError, match="neither segments_info nor segmentation"):
        FileMasks(tmp_path / "c.json")
    with pytest.raises(FileNotFoundError, match=r"no masks at .*hf:NAME"):
        open_generator(tmp_path / "none")
    annotations, images = write_world(tmp_path / "world")
    (tmp_path / "world" / "panoptic" / "000000000005.png").unlink()
    with pytest.raises(FileNotFoundError, match="pass the folder of the PNGs"):
        FileMasks(annotations)(picture, file=str(images / "000000000005.png"), names=[])
    with pytest.raises(ValueError, match=r"expected \(Q, Y, X\), \(Q,\) and \(Q, K\)"):
        MaskSet(masks_QYX=torch.zeros(2, 4, 4), void_Q=torch.zeros(3))
