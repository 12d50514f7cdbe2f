"""Train, evaluate and predict on a handful of drawn pictures, through the public functions and the command line."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.panoptic import NAMES, draw_world, write_world
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.cli.main import main
from clipself.data.images import read_index_map, read_segment_ids
from clipself.data.panoptic import PanopticFile
from clipself.metrics.panoptic_quality import PanopticQuality
from clipself.ops.run_lengths import encode_mask
from clipself.panoptic.config import PanopticTrainConfig
from clipself.panoptic.evaluate import evaluate_panoptic
from clipself.panoptic.generators.features import taps_of
from clipself.panoptic.generators.own import build_mask_model, load_own_masks
from clipself.panoptic.predict import predict_panoptic
from clipself.panoptic.recipes import PANOPTIC_RECIPES, panoptic_recipe
from clipself.panoptic.settings import OwnMasksSettings, Rules
from clipself.panoptic.train import train_panoptic

SHAPE: dict[str, Any] = {
    "image_size": 64, "channels": 32, "pixel_layers": 1, "pixel_hidden": 32, "layers": 2, "hidden": 32, "queries": 6,
    "heads": 2, "templates": "simple",
}  # fmt: skip
SMALL: dict[str, Any] = {
    "generator": SHAPE, "loss": {"num_points": 128}, "batch_size": 2, "workers": 0, "save_every": 0,
    "warmup_steps": 0, "precision": "fp32", "device": "cpu", "jitter": (1.0, 1.0), "flip": 0.0,
}  # fmt: skip
LOOK: dict[str, Any] = {"judge": {"templates": "simple", "image_size": 64}, "device": "cpu"}


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
    assert found[-1].classes_BQC.shape == (1, 4, 4)
    targets = MaskTargets(labels_N=torch.tensor([1]), masks_NHW=torch.ones(1, 8, 8))
    MaskClassificationLoss(num_points=16)([one.predictions for one in found], [targets]).backward()  # type: ignore[no-untyped-call]
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
        annotations=place / "panoptic.json", images=place / "images", masks=place / "panoptic.json",
        model=str(place / "clip"), **LOOK,
    )  # fmt: skip
    (row,) = report.rows
    numbers = [row.quality.overall.pq, row.quality.things.pq, row.quality.stuff.pq, row.mask_ap, row.miou]
    assert numbers == pytest.approx([100] * 5)
    assert (row.accuracy, row.class_accuracy, row.covered) == (100, 100, 100)


def test_evaluate_writes_what_cocos_tools_read(trained: Path, place: Path) -> None:
    words = [
        "panoptic", "evaluate", "--annotations", str(place / "panoptic.json"), "--images", str(place / "images"),
        "--checkpoint", str(trained), "--model", str(place / "clip"), "--scores", "clip", "generator", "both",
        "--judge.templates", "simple", "--judge.image-size", "64", "--out", str(place / "scores"), "--pictures", "2",
    ]  # fmt: skip
    assert main(words) == 0
    held = json.loads((place / "scores" / "scores.json").read_text())
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


def test_an_evaluation_that_breaks_off_leaves_whole_pictures_and_nothing_hidden(place: Path, tmp_path: Path) -> None:
    annotations, images = write_world(tmp_path / "world", count=3, void=False)
    last = sorted((annotations.parent / "panoptic").glob("*.png"))[-1]
    last.write_bytes(last.read_bytes()[:60])
    with pytest.raises(ValueError, match=last.name):
        evaluate_panoptic(
            annotations=annotations, images=images, masks=place / "panoptic.json", model=str(place / "clip"),
            out=tmp_path / "out", pictures=0, **LOOK,
        )  # fmt: skip
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(left) == 2
    assert all(read_segment_ids(path).shape == draw_world(0)[1].shape for path in left)


def test_evaluation_says_what_it_read_of_what_is_listed(place: Path, tmp_path: Path) -> None:
    annotations, images = write_world(tmp_path / "world", count=3, void=False)
    held = json.loads(annotations.read_text())
    held["categories"].append({"id": 9, "name": "unicorn", "isthing": 1})
    annotations.write_text(json.dumps(held))
    rows = [{"file_name": held["images"][0]["file_name"], "segmentation": encode_mask(draw_world(0)[1] == 7)}]
    (tmp_path / "masks.json").write_text(json.dumps(rows))
    report = evaluate_panoptic(
        annotations=annotations, images=images, masks=tmp_path / "masks.json", model=str(place / "clip"), limit=2,
        out=tmp_path / "out", pictures=0, **LOOK,
    )  # fmt: skip
    assert (report.images, report.listed, report.without_masks, report.without_truth) == (2, 3, 1, ("unicorn",))
    said = report.to_table()
    for line in (
        "2 of 3 pictures, 3 of 4 names occur there",
        "no segment of unicorn",
        "1 of these pictures have no mask",
    ):
        assert line in said
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["without_truth"] == ["unicorn"]
    rows[0]["file_name"] = "elsewhere/another.png"
    (tmp_path / "masks.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"no picture has masks, of 3 such as .*; were they made for others"):
        evaluate_panoptic(
            annotations=annotations, images=images, masks=tmp_path / "masks.json", model=str(place / "clip"), **LOOK
        )


def predict_words(trained: Path, place: Path, out: str) -> list[str]:
    return [
        "panoptic", "predict", str(place / "images"), "--checkpoint", str(trained), "--model", str(place / "clip"),
        "--names", "red box; green box, lime box; blue ground", "--stuff", "blue ground", "--scores", "generator",
        "--judge.templates", "simple", "--judge.image-size", "64", "--device", "cpu", "--out", str(place / out),
    ]  # fmt: skip


def test_predict_takes_names_at_run_time(trained: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(predict_words(trained, place, "found")) == 0
    assert "segments in 4 pictures" in capsys.readouterr().out
    out = place / "found"
    held, things, results = (json.loads((out / f"{name}.json").read_text()) for name in ("panoptic", "coco", "results"))
    kinds = {row["name"]: row["isthing"] for row in held["categories"]}
    assert kinds == {"red box": 1, "green box, lime box": 1, "blue ground": 0}
    assert [row["id"] for row in things["annotations"]] == list(range(1, len(things["annotations"]) + 1))
    assert {row["category_id"] for row in things["annotations"]} <= {1, 2}
    assert things["images"] == held["images"]
    assert {row["id"]: row["name"] for row in things["categories"]} == {
        row["id"]: row["name"] for row in held["categories"]
    }
    assert (results["listed"], results["read"], results["left_out"], results["complete"]) == (4, 4, [], True)
    for row, one in zip(held["annotations"], results["images"], strict=True):
        ids = read_segment_ids(out / one["panoptic"])
        assert one["panoptic"] == f"panoptic/{row['file_name']}"
        labels = read_index_map(out / one["map"])
        expected = np.full(ids.shape, 255)
        for info in row["segments_info"]:
            expected[ids == info["id"]] = info["category_id"] - 1
        assert (labels == expected).all()
        assert (out / one["picture"]).is_file()
        shares = {info["id"]: info["area"] / ids.size for info in row["segments_info"]}
        assert {info["id"]: info["share"] for info in one["segments"]} == pytest.approx(shares, abs=1e-5)


def test_one_broken_picture_ends_no_prediction(trained: Path, place: Path, tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "a/2.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        draw_world(len(name))[0].save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "a" / "2.png").write_bytes(b"no picture")
    found = predict_panoptic(
        images=[str(tmp_path / "photos")], checkpoint=str(trained), model=str(place / "clip"), names=list(NAMES),
        stuff=["blue ground"], out=str(tmp_path / "out"), **LOOK,
    )  # fmt: skip
    names = {path.relative_to(tmp_path / "out").as_posix() for path in found.drawings}
    assert names == {"pictures/a/1.png", "pictures/b/1.png"}
    results = json.loads(found.results.read_text())
    assert (results["listed"], results["read"]) == (3, 2)
    assert "a/2.png" in results["left_out"][0]["reason"]
    held = json.loads(found.panoptic.read_text())
    assert sorted(row["file_name"] for row in held["annotations"]) == ["a/1.png", "b/1.png"]


def test_a_segmenter_is_opened_in_one_line(trained: Path, place: Path) -> None:
    from clipself import PanopticSegmenter
    from clipself.panoptic.settings import JudgeSettings

    look = JudgeSettings(image_size=64, templates="simple")
    clip, path = str(place / "clip"), sorted((place / "images").glob("*.png"))[1]
    segmenter = PanopticSegmenter.from_checkpoint(trained, clip=clip, judge=look, scores="generator", device="cpu")
    segmenter.use("red box, green box, blue ground", stuff="blue ground")
    found = segmenter(path).panoptic
    with Image.open(path) as opened:
        assert torch.equal(segmenter(opened.convert("RGB")).panoptic.ids_HW, found.ids_HW)
    stored = PanopticSegmenter.from_checkpoint(masks=place / "panoptic.json", clip=clip, judge=look, device="cpu")
    stored.use(NAMES)
    assert len(stored(str(path)).log_scores_QK1) == 3  # found by the file that was given
    with pytest.raises(ValueError, match="masks come from one of them"):
        PanopticSegmenter.from_checkpoint(trained, masks=place / "panoptic.json", clip=clip)


def test_the_old_spelling_of_a_command_works(trained: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(predict_words(trained, place, "new")) == 0
    words = [
        "panoptic", "predict", "--model", str(place / "clip"), "--things", "red box; green box, lime box", "--stuff",
        "blue ground", "--inputs", str(place / "images"), "--masks", str(trained), "--scores", "generator",
        "--templates", "simple", "--image-size", "64", "--device", "cpu", "--out", str(place / "old"),
    ]  # fmt: skip
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert main(words) == 0
    said = " ".join(str(one.message) for one in told) + capsys.readouterr().err
    for new in ("--names", "--judge.templates", "--judge.image-size", "checkpoint"):
        assert f"is now {new}" in said
    assert (place / "old" / "panoptic.json").read_text() == (place / "new" / "panoptic.json").read_text()


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


def test_mistakes_are_sentences(trained: Path, place: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_size=40 is no multiple of 16 pixels"):
        train_panoptic(
            annotations=place / "panoptic.json", images=place / "images", out=tmp_path, model=str(place / "clip"),
            **{**SMALL, "generator": {**SHAPE, "image_size": 40}},
        )  # fmt: skip
    with pytest.raises(ValueError, match="the smaller one first"):
        PanopticTrainConfig(annotations=place, images=place, out=place, jitter=(2.0, 1.0))
    with pytest.raises(ValueError, match="unknown recipe 'smalls'"):
        panoptic_recipe("smalls")
    assert all(recipe().lr > 0 for recipe in PANOPTIC_RECIPES.values())
    with pytest.raises(ValueError, match="name one of them"):
        predict_panoptic(images=place, masks="x", names="cat", scores=("clip", "both"))
    with pytest.raises(ValueError, match="masks come from one of them, a trained generator"):
        predict_panoptic(images=place, names="cat", checkpoint="x", masks="y")
    with pytest.raises(FileNotFoundError, match="masks that are stored in files are passed as masks"):
        predict_panoptic(images=place / "images", names="cat", checkpoint=str(place / "panoptic.json"))
    with pytest.raises(ValueError, match="limit=0 must be at least 1"):
        evaluate_panoptic(annotations=place, images=place, masks=place, limit=0)
    with pytest.raises(ValueError, match="channels=48 must be a multiple of 32"):
        OwnMasksSettings(channels=48)
    with pytest.raises(ValueError, match=r"overlap_threshold=1.5 is not in \[0, 1\]"):
        Rules(overlap_threshold=1.5)
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
            annotations=place / "panoptic.json", images=place / "images", masks=place / "panoptic.json",
            model=str(place / "clip"), scores=("both",), **LOOK,
        )  # fmt: skip
