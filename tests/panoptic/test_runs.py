"""Train, evaluate and predict on a handful of drawn pictures, through the public functions and the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.panoptic import NAMES, write_world
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.cli.main import main
from clipself.data.images import read_segment_ids
from clipself.data.panoptic import PanopticFile
from clipself.engine.log import read_metrics
from clipself.metrics.panoptic_quality import PanopticQuality
from clipself.panoptic.config import PanopticTrainConfig
from clipself.panoptic.evaluate import evaluate_panoptic
from clipself.panoptic.generators.own import OwnMasksSettings, build_mask_model, load_own_masks, taps_of
from clipself.panoptic.predict import predict_panoptic, read_names
from clipself.panoptic.recipes import PANOPTIC_RECIPES, panoptic_recipe
from clipself.panoptic.train import train_panoptic

SMALL: dict[str, Any] = {
    "image_size": 64, "channels": 32, "pixel_layers": 1, "pixel_hidden": 32, "layers": 2, "hidden": 32, "queries": 6,
    "heads": 2, "num_points": 128, "templates": "simple", "batch_size": 2, "workers": 0, "save_every": 0,
    "warmup_steps": 0, "precision": "fp32", "device": "cpu", "jitter": (1.0, 1.0), "flip": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panoptic")
    write_world(folder, count=4, void=False)
    save_clip(tiny_openai_clip(layers=3), folder / "clip")
    return folder


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    result = train_panoptic(
        annotations=place / "panoptic.json", images=place / "images", out=place / "run", model=str(place / "clip"),
        max_steps=60, lr=3e-3, **SMALL,
    )  # fmt: skip
    assert result.last_loss < 0.6 * result.first_loss
    return result.out


def test_a_resumed_run_ends_where_an_unbroken_one_does(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = {**SMALL, "annotations": place / "panoptic.json", "images": place / "images", "model": str(place / "clip")}
    train_panoptic(out=place / "whole", max_steps=4, **common)
    with pytest.raises(FileExistsError, match="already holds a run"):
        train_panoptic(out=place / "whole", max_steps=4, **common)
    import clipself.engine.old_loop as loop

    step = loop.Loop._step

    def stop_after_two(self: Any, model: Any, stream: Any, place: int, bar: Any) -> None:
        if place == 2:
            self.save(2)
            raise KeyboardInterrupt
        step(self, model, stream, place, bar)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Loop, "_step", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            train_panoptic(out=place / "parts", max_steps=4, **common)
    train_panoptic(out=place / "parts", max_steps=4, resume=True, **common)
    whole, parts = (load_own_masks(place / name).model.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert [row["loss"] for row in read_metrics(place / "whole")] == [
        row["loss"] for row in read_metrics(place / "parts")
    ]


def test_only_the_decoders_learn_and_all_of_them(place: Path) -> None:
    clip = tiny_openai_clip(layers=3)
    config = OwnMasksSettings(image_size=64, channels=32, pixel_layers=1, layers=3, queries=4, heads=2, hidden=32)
    assert taps_of(config, clip) == (1,)
    torch.manual_seed(0)
    model = build_mask_model(config, clip)
    from clipself.backbones.text import embed_names
    from clipself.losses.mask_classification import MaskClassificationLoss
    from clipself.structures import MaskTargets

    images = torch.randn(1, 3, 64, 64)
    text = embed_names(clip, NAMES, templates="simple", wording="short")
    found = model(images, clip.taps(images, (1,), readout="qk"), text, all_layers=True)
    assert len(found) == 4
    assert found[-1].logits_BQK.shape == (1, 4, 4)
    targets = MaskTargets(labels_N=torch.tensor([1]), masks_NHW=torch.ones(1, 8, 8))
    MaskClassificationLoss(num_points=16)(found, [targets]).backward()  # type: ignore[no-untyped-call]
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    with pytest.raises(ValueError, match=r"taps=\(3,\) must ascend within 0\.\.2"):
        taps_of(OwnMasksSettings(taps=(3,)), clip)


def test_true_masks_and_a_perfect_judge_give_a_perfect_score(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipself.panoptic.judge import ClipJudge

    def know(self: Any, picture: Image.Image, masks: torch.Tensor) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(picture)).float()
        colours = torch.stack([pixels[mask > 0].mean(0) for mask in masks])
        return torch.nn.functional.one_hot(colours.argmax(1), 3).float() * 30

    monkeypatch.setattr(ClipJudge, "__call__", know)
    report = evaluate_panoptic(
        annotations=place / "panoptic.json", images=place / "images", masks=str(place / "panoptic.json"),
        models=(str(place / "clip"),), templates="simple", image_size=64,
    )  # fmt: skip
    (row,) = report.rows
    numbers = [row.quality.overall.pq, row.quality.things.pq, row.quality.stuff.pq, row.mask_ap, row.miou]
    assert numbers == pytest.approx([100] * 5)
    assert (row.accuracy, row.class_accuracy, row.covered) == (100, 100, 100)


def test_evaluate_writes_what_cocos_tools_read(trained: Path, place: Path) -> None:
    words = [
        "panoptic", "evaluate", "--annotations", str(place / "panoptic.json"), "--images", str(place / "images"),
        "--masks", str(trained), "--models", str(place / "clip"), "--scores", "clip", "generator", "both",
        "--templates", "simple", "--image-size", "64", "--out", str(place / "scores"), "--pictures", "2",
    ]  # fmt: skip
    assert main(words) == 0
    held = json.loads((place / "scores" / "panoptic_report.json").read_text())
    assert [row["scores"] for row in held["rows"]] == ["generator", "clip", "both"]
    generator = held["rows"][0]
    assert generator["covered"] > 60  # flat boxes: a minute of a toy is enough to find them
    assert generator["quality"]["overall"]["pq"] > 40
    assert len(list((place / "scores").glob("picture_*.png"))) == 2
    data, meter = PanopticFile(place / "panoptic.json", place / "images"), PanopticQuality([True, True, False])
    written = json.loads((place / "scores" / "1_-_generator" / "panoptic.json").read_text())
    for index, row in enumerate(written["annotations"]):
        ids = read_segment_ids(place / "scores" / "1_-_generator" / "panoptic" / row["file_name"])
        found = {one["id"]: one["category_id"] for one in row["segments_info"]}
        truth = data.read(index)
        assert row["image_id"] == truth.image_id
        assert [one["area"] for one in row["segments_info"]] == [int((ids == one).sum()) for one in found]
        meter.update(ids, found, truth.ids_HW, truth.segments)
    assert meter.compute().overall.pq == pytest.approx(generator["quality"]["overall"]["pq"])


def test_predict_takes_names_at_run_time(trained: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "panoptic", "predict", "--inputs", str(place / "images"), "--masks", str(trained), "--model",
        str(place / "clip"), "--things", "red box; green box, lime box", "--stuff", "blue ground", "--scores",
        "generator", "--templates", "simple", "--image-size", "64", "--out", str(place / "found"),
    ]  # fmt: skip
    assert main(words) == 0
    assert "segments in 4 pictures" in capsys.readouterr().out
    held = json.loads((place / "found" / "panoptic.json").read_text())
    assert [row["name"] for row in held["categories"]] == ["red box", "green box, lime box", "blue ground"]
    rows = json.loads((place / "found" / "instances.json").read_text())
    assert all(row["category_id"] in (1, 2) for row in rows)
    assert len(list((place / "found" / "drawings").glob("*.png"))) == 4


def test_our_masks_are_asked_again_without_a_second_look(
    trained: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = load_own_masks(trained)
    with Image.open(next((place / "images").glob("*.png"))) as opened:
        picture = opened.convert("RGB")
    whole = generator(picture, file="", names=["red box", "lime box"])
    early = generator(picture, file="", names=[])
    monkeypatch.setattr(generator.clip, "taps", None)  # a second look would fail
    assert early.logits_QK is None
    for masks in (early, whole):
        assert masks.rescore is not None
        again = masks.rescore(["red box", "lime box"])
        assert torch.equal(again.masks_QYX, whole.masks_QYX)
        assert again.logits_QK is not None
        assert whole.logits_QK is not None
        assert torch.equal(again.logits_QK, whole.logits_QK)
        assert torch.equal(again.void_Q, whole.void_Q)


def test_names_come_as_words_files_and_vocabularies(tmp_path: Path) -> None:
    (tmp_path / "stuff.txt").write_text("grass\nsky\n")
    assert read_names("cat; dog, puppy", str(tmp_path / "stuff.txt")) == (
        ["cat", "dog, puppy", "grass", "sky"], [True, True, False, False],
    )  # fmt: skip
    names, kinds = read_names("coco_panoptic_133", "")
    assert (len(names), sum(kinds)) == (133, 80)
    with pytest.raises(ValueError, match="no names to look for"):
        read_names("", " ; ")
    with pytest.raises(ValueError, match="'cat' is named twice"):
        read_names("cat; dog", "cat")


def test_mistakes_are_sentences(trained: Path, place: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_size=40 is no multiple of two patches"):
        train_panoptic(
            annotations=place / "panoptic.json", images=place / "images", out=tmp_path, model=str(place / "clip"),
            **{**SMALL, "image_size": 40},
        )  # fmt: skip
    with pytest.raises(ValueError, match="the smaller one first"):
        PanopticTrainConfig(annotations=place, images=place, out=place, jitter=(2.0, 1.0))
    with pytest.raises(ValueError, match="unknown recipe 'smalls'"):
        panoptic_recipe("smalls")
    assert all(recipe().lr > 0 for recipe in PANOPTIC_RECIPES.values())
    with pytest.raises(ValueError, match="name one of them"):
        predict_panoptic(inputs=(place,), masks="x", things="cat", scores=("clip", "both"))
    with pytest.raises(FileNotFoundError, match="a folder that `panoptic train` writes"):
        load_own_masks(tmp_path)
    held = json.loads((trained / "mask_model.json").read_text())
    clip = {"model": str(place / "clip"), "pretrained": None, "image_weights": held["clip_digest"]}
    old = {"shape": held["settings"], "clip": clip, "trained_names": held["names"], "settings": held["training"]}
    (tmp_path / "mask_model.json").write_text(json.dumps(old))
    (tmp_path / "mask_model.safetensors").write_bytes((trained / "mask_model.safetensors").read_bytes())
    assert list(load_own_masks(tmp_path).trained_names) == held["names"]
    held |= {"model": str(place / "clip"), "clip_digest": "another"}
    (tmp_path / "mask_model.json").write_text(json.dumps(held))
    (tmp_path / "mask_model.safetensors").write_bytes((trained / "mask_model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="was trained on another CLIP than"):
        load_own_masks(tmp_path)
    with pytest.raises(ValueError, match="only the CLIP can judge them"):
        evaluate_panoptic(
            annotations=place / "panoptic.json", images=place / "images", masks=str(place / "panoptic.json"),
            models=(str(place / "clip"),), scores=("both",), templates="simple", image_size=64,
        )  # fmt: skip
