"""Prediction: what is asked for, which readout, one result a picture, broken ones told; converters."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.data.images import read_index_map
from clipself.segmentation.predict import open_segmenter, predict_segments
from clipself.segmentation.results import to_coco, to_pipeline, to_supervision
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.structures import Segmentation


def predict(out: Path, **options: Any) -> dict[str, Any]:
    settings = {"model": "./openai", "templates": "simple", "device": "cpu", "names": "cat, dog", **options}
    held: dict[str, Any] = json.loads(predict_segments(out=str(out), **settings).read_text())
    return held


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param("cat, dog", ["cat", "dog"], id="commas"),
        pytest.param(["cat", "dog"], ["cat", "dog"], id="list"),
        pytest.param("traffic_light", ["traffic_light"], id="one-with-an-underscore"),
        pytest.param(["hot_dog", "fire_hydrant"], ["hot_dog", "fire_hydrant"], id="underscores"),
        pytest.param("cat, kitten; dog", ["cat, kitten", "dog"], id="synonyms"),
        pytest.param("list.txt", ["a red car", "grass"], id="file"),
    ],
)
def test_names_are_classes_however_they_are_given(names: Any, expected: list[str], tmp_path: Path) -> None:
    if names == "list.txt":
        (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa red car\r\ngrass\r\n")
        names = str(tmp_path / "list.txt")
    assert predict(tmp_path / "out", images="scenes/val/000000.jpg", names=names)["names"] == expected


@pytest.mark.usefixtures("world")
def test_a_packaged_vocabulary_is_one(tmp_path: Path) -> None:
    held = predict(tmp_path / "out", images="scenes/val/000000.jpg", names="pascal_voc_20")
    assert len(held["names"]) == 20


@pytest.mark.parametrize(
    ("card", "given", "used"),
    [
        pytest.param({}, None, "value", id="plain"),
        pytest.param({"settings": {"readout": "sclip"}}, None, "sclip", id="refined"),
        pytest.param({"settings": {"readout": "sclip"}}, "clearclip", "clearclip", id="told"),
        pytest.param({"settings": "none"}, None, "value", id="another-card"),
    ],
)
def test_the_readout_is_what_the_model_was_refined_with(
    card: dict[str, Any], given: str | None, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    save_clip(tiny_openai_clip(), tmp_path / "clip", card=card)
    segmenter = open_segmenter(
        model=str(tmp_path / "clip"), names="cat", readout=given, templates="simple", device="cpu"
    )
    assert isinstance(segmenter, TrainingFree)
    assert segmenter.settings.readout == used


@pytest.mark.usefixtures("world")
def test_every_picture_keeps_its_own_result_and_a_broken_one_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a/1.png", "b/1.png", "a/2.jpg", "a/2.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((64, 48), 60).convert("RGB").save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "a" / "broken.png").write_bytes(b"no picture")
    held = predict(tmp_path / "out", images=[tmp_path / "photos"])
    assert (held["listed"], held["read"], len(held["left_out"])) == (5, 4, 1)
    assert "broken.png" in held["left_out"][0]["image"]
    assert "broken.png" in caplog.text
    for kind in ("map", "picture"):
        assert len({row[kind] for row in held["images"]}) == 4
        assert all((tmp_path / "out" / row[kind]).is_file() for row in held["images"])
    coco = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert {row["file_name"] for row in coco["images"]} == {"a/1.png", "b/1.png", "a/2.jpg", "a/2.png"}
    assert [row["id"] for row in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))
    for image, row in zip(coco["images"], held["images"], strict=True):
        labels = read_index_map(tmp_path / "out" / row["map"])
        painted = np.full(labels.shape, -1)
        for one in coco["annotations"]:
            if one["image_id"] == image["id"]:
                painted[coco_mask.decode(one["segmentation"]).astype(bool)] = one["category_id"] - 1
        assert (painted == labels).all()


@pytest.mark.usefixtures("world")
def test_no_picture_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        predict(tmp_path / "out", images=tmp_path / "broken.png")


def segmentation() -> Segmentation:
    labels = torch.tensor([[0, 2, 2], [2, 2, 0]])
    scores = torch.tensor([[0.5, 0.9, 0.8], [0.7, 0.8, 0.3]])
    return Segmentation(labels_HW=labels, scores_HW=scores, names=("cat", "dog", "grass"))


def test_a_segmentation_counts_its_classes() -> None:
    found = segmentation()
    assert (len(found), found.classes) == (2, [2, 0])
    assert found.share(2) == pytest.approx(4 / 6)
    assert found.score(2) == pytest.approx(0.8)
    assert found.mask(0).tolist() == [[True, False, False], [False, False, True]]
    with pytest.raises(ValueError, match="label 2 is outside the 2 names"):
        Segmentation(labels_HW=found.labels_HW, names=("cat", "dog"))
    with pytest.raises(ValueError, match=r"expected \(H, W\) both"):
        Segmentation(labels_HW=found.labels_HW, names=found.names, scores_HW=torch.zeros(2))


def test_other_tools_get_a_mask_a_class() -> None:
    found = segmentation()
    rows = to_coco(found, image_id="x", category_ids=[7, 8, 9])
    assert [row["category_id"] for row in rows] == [9, 7]
    assert coco_mask.decode(rows[1]["segmentation"]).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert [row["label"] for row in to_pipeline(found)] == ["grass", "cat"]
    assert np.asarray(to_pipeline(found)[1]["mask"]).tolist() == [[255, 0, 0], [0, 0, 255]]
    supervision = pytest.importorskip("supervision")
    detections = to_supervision(found)
    assert isinstance(detections, supervision.Detections)
    assert detections.data["class_name"].tolist() == ["grass", "cat"]
    assert detections.mask.sum(axis=(1, 2)).tolist() == [4, 2]
