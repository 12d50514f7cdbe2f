"""The heads that ship with the package work in the first minute: no checkpoint is named, something is found."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from clipself import Detector, load_clip, predict_images
from clipself.backbones.packaged_heads import PACKAGED_HEADS
from clipself.cli.main import main
from clipself.data.scenes.draw import SceneMaker
from clipself.data.scenes.textures import STUFF

MOST = 6_000_000
"""Bytes of all packaged heads together."""


def overlap(one: Any, two: Any) -> float:
    """Intersection over union of two boxes."""
    left, top = max(one[0], two[0]), max(one[1], two[1])
    right, bottom = min(one[2], two[2]), min(one[3], two[3])
    shared = max(0.0, right - left) * max(0.0, bottom - top)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return float(shared / (sum(areas) - shared))


def test_they_are_small_and_stand_on_the_packaged_clip() -> None:
    assert sum(path.stat().st_size for folder in PACKAGED_HEADS.values() for path in folder.iterdir()) < MOST
    for name, folder in PACKAGED_HEADS.items():
        (card,) = folder.glob("*.json")
        held = json.loads(card.read_text())
        assert held["model"] == "clipself-mini", name
        assert held["clip_digest"] == load_clip().weights_hash(held["clip_part"])
        assert "generated scenes" in held["summary"]
        assert "/" not in card.read_text().replace("w/o", ""), "a card names no folder of the machine that made it"
        with safe_open(card.with_suffix(".safetensors"), framework="pt") as weights:
            assert {str(weights.get_tensor(key).dtype) for key in weights.keys()} <= {"torch.float16"}  # noqa: SIM118


def test_a_detector_without_a_checkpoint_finds_things_of_scenes() -> None:
    """Scenes that no training saw: of what stands there, a share is found by name and place."""
    detector, maker = Detector.from_checkpoint(device="cpu"), SceneMaker(seed="first minute")
    found = there = 0
    for index in range(12):
        scene = maker(index)
        things = [one for one in scene.segments if one.is_thing]
        (answer,) = detector.predict(scene.image, names=sorted({one.name for one in things}), threshold=0.1)
        for thing in things:
            there += 1
            found += any(one.name == thing.name and overlap(one.box, thing.box) > 0.5 for one in answer)
    assert there > 40
    assert found / there > 0.4


def test_the_command_needs_no_checkpoint_and_says_what_it_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    SceneMaker(seed="first minute")(0).image.save("photo.png")
    names = [one.name for one in SceneMaker(seed="first minute")(0).segments if one.is_thing]
    assert main(["detect", "predict", "photo.png", "--names", *dict.fromkeys(names), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "clipself-mini-detector: small heads, trained on " in said
    assert "generated scenes at 320 px" in said
    assert (tmp_path / "detections/pictures/photo.png").is_file()


def test_a_checkpoint_of_ones_own_is_not_explained(tmp_path: Path) -> None:
    SceneMaker(seed="first minute")(0).image.save(tmp_path / "a.png")
    result = predict_images(
        images=tmp_path / "a.png", names="cat", checkpoint=str(PACKAGED_HEADS["clipself-mini-detector"]),
        out=tmp_path / "out", device="cpu",
    )  # fmt: skip
    assert "small heads" not in result.summary


def test_panoptic_segmentation_without_a_checkpoint_names_the_ground(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    maker, right, labelled = SceneMaker(seed="first minute"), 0, 0
    names = ["dog", "pizza", "car", *STUFF]
    for index in range(4):
        maker(index).image.save(f"{index}.png")
    words = ["panoptic", "predict", *(f"{index}.png" for index in range(4)), "--out", "found", "--device", "cpu"]
    assert main([*words, "--names", *names[:3], "--stuff", *names[3:]]) == 0
    said = capsys.readouterr().out
    assert "clipself-mini-masks: small heads, trained on " in said
    for index in range(4):
        scene, found = maker(index), np.asarray(Image.open(f"found/maps/{index}.png"))
        for segment in scene.segments:
            if not segment.is_thing:
                mask = scene.panoptic_HW == segment.id
                labelled += int(mask.sum())
                right += int((found[mask] == names.index(segment.name)).sum())
    assert right / labelled > 0.4
