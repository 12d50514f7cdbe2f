"""Masks that learn their classes from captions: nouns by picture, objects without labels, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.panoptic import write_world
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.data.panoptic import PanopticFile
from clipself.engine.distributed import World
from clipself.engine.log import read_metrics
from clipself.engine.step import Step
from clipself.panoptic.config import PanopticTrainConfig
from clipself.panoptic.generators.own import load_own_masks
from clipself.panoptic.recipes import panoptic_recipe
from clipself.panoptic.supervision import CaptionSupervision, names_below, nouns_by_picture
from clipself.panoptic.train import train_panoptic

SIZES: dict[str, Any] = {
    "image_size": 64, "channels": 32, "pixel_layers": 1, "pixel_hidden": 16, "layers": 1, "hidden": 16, "queries": 4,
    "heads": 2,
}  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_world(tmp_path, count=4)
    save_clip(tiny_openai_clip(layers=2), tmp_path / "clip")
    said = {5: ["A red box.", "Boxes and a cat on grass, sky and water."], 6: ["Two dogs."], 7: ["Nothing at all."]}
    rows = [{"image_id": picture, "caption": one} for picture, captions in said.items() for one in captions]
    (tmp_path / "captions.json").write_text(json.dumps({"images": [], "annotations": rows}))
    return tmp_path


def config(world: Path, **generator: Any) -> PanopticTrainConfig:
    return panoptic_recipe(
        "small-odise-caption", annotations=world / "panoptic.json", images=world / "images", out=world / "run",
        captions=world / "captions.json", generator={**SIZES, **generator},
    )  # fmt: skip


def test_nouns_belong_to_pictures_by_their_ids(world: Path) -> None:
    images = PanopticFile(world / "panoptic.json", world / "images")
    nouns = nouns_by_picture(images, world / "captions.json", names_below(world / "images"))
    assert nouns == {
        "000000000005.png": [("box",), ("box", "cat", "grass", "sky", "water")], "000000000006.png": [("dog",)],
        "000000000007.png": [], "000000000008.png": [],
    }  # fmt: skip
    (world / "other.json").write_text(json.dumps({"annotations": [{"image_id": 99, "caption": "A cat."}]}))
    with pytest.raises(ValueError, match="no caption with a known noun for any of the 4 pictures; are their ids"):
        nouns_by_picture(images, world / "other.json", names_below(world / "images"))


def test_a_caption_is_drawn_by_picture_and_step(world: Path) -> None:
    images = PanopticFile(world / "panoptic.json", world / "images")
    learnt = CaptionSupervision(config(world, words=3), tiny_openai_clip(), images)
    here = World(rank=0, size=1, device=torch.device("cpu"))
    drawn = [
        learnt.draw("000000000005.png", Step(number=number, seed=0, totals={}, world=here)) for number in range(20)
    ]
    assert {len(one) for one in drawn} == {1, 3}  # either caption; three of the nouns of the long one
    assert len({tuple(one) for one in drawn}) > 2
    assert learnt.draw("000000000007.png", Step(number=0, seed=0, totals={}, world=here)) == []
    again = CaptionSupervision(config(world, words=3), tiny_openai_clip(), images)
    assert drawn[3] == again.draw("000000000005.png", Step(number=3, seed=0, totals={}, world=here))


def test_captions_teach_names_and_labels_are_not_looked_at(world: Path) -> None:
    runs = []
    for name, categories in (("one", ["a", "b", "c"]), ("two", ["x", "y", "z"])):
        held = json.loads((world / "panoptic.json").read_text())
        for row, word in zip(held["categories"], categories, strict=True):
            row["name"] = word
        (world / "panoptic.json").write_text(json.dumps(held))
        out = train_panoptic(
            config(world), out=world / name, model=str(world / "clip"), max_steps=2, batch_size=2, workers=0,
            device="cpu", precision="fp32", loss={"num_points": 16},
        ).out  # fmt: skip
        runs.append(load_own_masks(out))
        assert {"class", "mask", "dice", "caption"} <= read_metrics(out)[0].keys()
    first, second = (one.model.state_dict() for one in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert "heads.word_head.text_proj.weight" in first


def test_captions_are_asked_for_where_they_are_learnt_from(world: Path) -> None:
    given: dict[str, Any] = {"annotations": world / "panoptic.json", "images": world / "images", "out": world / "run"}
    with pytest.raises(ValueError, match="captions=None: a generator with supervision='caption'"):
        train_panoptic(**given, recipe="small-odise", generator={"supervision": "caption"})
    with pytest.raises(ValueError, match="learns from a COCO captions file, and no other does"):
        train_panoptic(**given, captions=world / "captions.json")
    with pytest.raises(ValueError, match="captions= must be given"):
        train_panoptic(**given, recipe="small-odise-caption")
    with pytest.raises(ValueError, match="unknown mask generator that learns 'odize'"):
        train_panoptic(**given, generator={"method": "odize"})
