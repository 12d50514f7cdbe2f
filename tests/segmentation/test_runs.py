"""Whole runs through the command line: train, resume, evaluate, the table without training, predict."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.support.processes import in_two_processes
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.cli.main import main
from clipself.data.images import read_index_map
from clipself.data.scenes.export import write_scenes
from clipself.engine.log import read_metrics
from clipself.segmentation.checkpoint import load_segmenter
from clipself.segmentation.config import SegmentationTrainConfig
from clipself.segmentation.recipes import SEGMENT_RECIPES, segment_recipe
from clipself.segmentation.san.model import San
from clipself.segmentation.segmenters import build_model

DATA = "--data scenes/annotations/panoptic_train.json --images scenes/train --seen scenes/base.txt"
SMALL = "--crop 64 --shortest 64 --batch-size 2 --workers 0 --lr 1e-3 --clip-norm 1 --warmup-steps 0 --device cpu"
CATSEG = f"--image-size 64 --hidden 16 --classes-per-step 6 {SMALL}"
SAN = f"--recipe small-san --side-width 40 --queries 8 --num-points 64 {SMALL}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scenes and two tiny models."""
    folder = tmp_path_factory.mktemp("segmentation")
    write_scenes(folder / "scenes", train=6, val=2, size=(96, 96))
    save_clip(tiny_openai_clip(layers=6), folder / "openai")
    save_clip(tiny_openai_clip(seed=1, layers=6), folder / "other")
    save_clip(tiny_eva_clip(layers=6), folder / "eva")
    return folder


@pytest.fixture(autouse=True)
def there(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv("CLIPSELF_CACHE", str(world / "cache"))


def run(words: str) -> int:
    return main(words.split())


def weights(folder: str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "segmenter.safetensors")


@pytest.mark.parametrize(
    ("method", "options"),
    [
        pytest.param("catseg", CATSEG, id="catseg"),
        pytest.param("catseg-all", f"{CATSEG} --train-clip queries-values", id="catseg-queries-values"),
        pytest.param("san", SAN, id="san"),
    ],
)
def test_a_trained_model_is_evaluated_and_used(method: str, options: str, capsys: pytest.CaptureFixture[str]) -> None:
    train = f"segment train --model ./openai {DATA} {options}"
    assert run(f"{train} --out {method}-whole --max-steps 2") == 0
    assert "next: clipself segment evaluate" in capsys.readouterr().out
    records = read_metrics(f"{method}-whole")
    assert [record["step"] for record in records] == [1, 2]
    assert all(np.isfinite(record["loss"]) for record in records)
    whole = weights(f"{method}-whole")
    learnt_clip = [name for name in whole if name.startswith("clip.")]
    assert bool(learnt_clip) == (method == "catseg-all")

    val = "--data scenes/annotations/panoptic_val.json --images scenes/val --device cpu"
    assert (
        run(f"segment evaluate --models {method}-whole {val} --out {method}-eval --save-maps --per-class --mode whole")
        == 0
    )
    printed = capsys.readouterr().out
    assert "mIoU unseen" in printed
    (scores,) = Path(f"{method}-eval").rglob("scores.json")
    held = json.loads(scores.read_text())
    assert (held["images"], held["classes"]) == (2, 94)
    assert 0 <= held["scores"]["mIoU"] <= 100
    assert len(list(Path(f"{method}-eval").rglob("maps/*.png"))) == 2
    with Image.open(next(Path(f"{method}-eval").rglob("pictures/*.png"))) as picture:
        assert picture.width > 3 * 290

    assert (
        run(f"segment predict --model {method}-whole --images scenes/val/000000.jpg --out {method}-p --device cpu") == 0
    )
    results = json.loads((Path(f"{method}-p") / "results.json").read_text())
    (image,) = results["images"]
    labels = read_index_map(Path(f"{method}-p") / image["map"])
    assert labels.shape == (96, 96)
    assert sum(row["share"] for row in image["classes"]) == pytest.approx(1, abs=1e-3)
    assert (labels == image["classes"][0]["index"]).mean() == pytest.approx(image["classes"][0]["share"], abs=1e-4)


def test_a_run_goes_on_where_its_state_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from clipself.engine.old_loop import Loop

    train = f"segment train --model ./openai {DATA} {CATSEG} --max-steps 4 --save-every 2"
    assert run(f"{train} --out through") == 0
    ordinary = Loop.save

    def stop_after_two(self: Any, step: int) -> None:
        ordinary(self, step)
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "save", stop_after_two)
    assert run(f"{train} --out resumed") == 130
    monkeypatch.setattr(Loop, "save", ordinary)
    assert run(f"{train} --out resumed --resume") == 0
    first, second = weights("through"), weights("resumed")
    assert all(torch.equal(first[name], second[name]) for name in first)


def _train(words: str) -> None:
    tiny_eva_clip(layers=6)  # makes the name known to this process
    assert run(words) == 0


@pytest.mark.parametrize("learns", ["queries-values", "visual-attention"])
def test_two_processes_equal_one_with_the_double_batch(learns: str, tmp_path: Path) -> None:
    """On an EVA tower, whose last queries the dense map does not read: no process may wait for their gradient."""
    words = f"segment train --model ./eva {DATA} --image-size 64 --hidden 16 --train-clip {learns} {SMALL}"
    words += " --classes-per-step 94 --max-steps 3 --eps 1e-3"  # a small eps blows up the last bits of tiny gradients
    assert run(f"{words} --batch-size 4 --out {tmp_path / 'one'}") == 0
    in_two_processes(_train, f"{words} --out {tmp_path / 'two'}")
    losses = [[record["loss"] for record in read_metrics(tmp_path / name)] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    first, second = weights(str(tmp_path / "one")), weights(str(tmp_path / "two"))
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 1e-5


def test_the_table_without_training(capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "segment table --models ./openai ./other --methods maskclip naclip --data scenes/annotations/panoptic_val.json "
        "--images scenes/val --unseen scenes/novel.txt --shortest 64 --window 32 --stride 16 --templates simple "
        "--out table --device cpu"
    )
    assert run(words) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split()[:2] for line in lines if line.startswith(("openai", "other"))]
    assert rows == [["openai", "maskclip"], ["openai", "naclip"], ["other", "maskclip"], ["other", "naclip"]]
    assert len(list(Path("table").rglob("scores.json"))) == 4


def test_prediction_without_training_takes_any_names() -> None:
    words = ["segment", "predict", "--model", "./openai", "--images", "scenes/val", "--names", "a cat, grass, the sky",
             "--out", "free", "--readout", "maskclip", "--device", "cpu"]  # fmt: skip
    assert main(words) == 0
    held = json.loads(Path("free/results.json").read_text())
    assert held["names"] == ["a cat", "grass", "the sky"]
    assert len(held["images"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param("segment predict --model ./openai --images scenes/val", "was never trained on names", id="names"),
        pytest.param("segment evaluate --models scenes --data x.json --images y", "no annotation file", id="data"),
        pytest.param("segment train --recipe big --data x --out y", "unknown recipe 'big'", id="recipe"),
    ],
)
def test_bad_input_is_a_sentence(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"classes_per_step": 1}, "leaves nothing to tell apart", id="classes"),
        pytest.param({"evaluate_every": 5}, "needs evaluate_data", id="evaluate"),
        pytest.param({"max_steps": 0}, "max_steps=0 must be at least 1", id="steps"),
    ],
)
def test_settings_that_do_not_fit_are_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SegmentationTrainConfig(data=Path("x"), out=Path("y"), **options)


def test_a_model_on_another_clip_or_cut_short_is_refused() -> None:
    assert run(f"segment train --model ./openai {DATA} {CATSEG} --max-steps 1 --out one") == 0
    with pytest.raises(ValueError, match="was trained on another CLIP"):
        load_segmenter("one", clip=load_clip("./other"))
    with pytest.raises(FileNotFoundError, match=r"no segmenter.json with segmenter.safetensors"):
        load_segmenter("scenes")
    card = json.loads(Path("one/segmenter.json").read_text())
    old = {key: card[key] for key in ("method", "model", "pretrained", "train_clip", "crop", "settings", "names")}
    old |= {"format": "clipself segmenter 1", "clip_hash": card["clip_digest"]}
    Path("one/segmenter.json").write_text(json.dumps(old))
    assert load_segmenter("one")[1]["names"] == card["names"]
    card["settings"]["aggregator"]["hidden"] = 32
    Path("one/segmenter.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"its own settings in segmenter\.json"):
        load_segmenter("one")
    assert run(f"segment train --model ./openai {DATA} {CATSEG} --max-steps 1 --out one") == 2  # it holds a run


@pytest.mark.parametrize("method", ["catseg", "san"])
def test_eva_towers_carry_both(method: str) -> None:
    config = segment_recipe(
        f"small-{method}", data=Path(), out=Path(), crop=64, image_size=64, hidden=16, side_width=40
    )
    clip = tiny_eva_clip(layers=6)
    model = build_model(config, clip).eval()
    with torch.no_grad():
        out = model(torch.zeros(1, 3, 64, 64), model.embed_names(["cat", "dog"]))
    if isinstance(out, torch.Tensor):
        assert out.shape == (1, 2, 16, 16)
    else:
        assert out[0].logits_BQK.shape == (1, 40, 3)


def test_a_gain_and_a_prior_change_two_tensors_of_a_new_model() -> None:
    plain = segment_recipe("small-catseg", data=Path(), out=Path(), image_size=64, cost_gain=1.0, class_prior=0.5)
    told = replace(plain, cost_gain=10.0, class_prior=0.1)
    clip = tiny_openai_clip(layers=6)
    first, second = (build_model(config, clip).state_dict() for config in (plain, told))
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"aggregator.conv1.weight", "aggregator.head.bias"}
    torch.testing.assert_close(second["aggregator.conv1.weight"], 10 * first["aggregator.conv1.weight"])
    shift = second["aggregator.head.bias"] - first["aggregator.head.bias"]
    torch.testing.assert_close(shift.sigmoid(), torch.tensor([0.1]))
    with pytest.raises(ValueError, match=r"class_prior=1.0 is not in \(0, 1\)"):
        replace(plain, class_prior=1.0)


def test_a_readout_can_be_chosen_and_a_release_has_its_own() -> None:
    plain = segment_recipe("small-catseg", data=Path(), out=Path(), image_size=64, readout=None)
    clip = tiny_openai_clip(layers=6)
    readouts = [build_model(replace(plain, **how), clip).settings for how in ({}, {"readout": "value"}, {"release": 1})]
    assert [settings.readout for settings in readouts] == ["catseg", "value", "value"]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="did you mean 'value'"):
        build_model(replace(plain, readout="valuex"), clip)


@pytest.mark.parametrize(("given", "used"), [(None, 100.0), (30.0, 30.0)])
def test_san_scales_cosines_as_published_or_as_told(given: float | None, used: float) -> None:
    config = segment_recipe("small-san", data=Path(), out=Path(), crop=64, side_width=40, logit_scale=given)
    model = build_model(config, tiny_openai_clip(layers=6))
    assert isinstance(model, San)
    masks, texts = torch.eye(32)[None, :2], torch.eye(32)[:3]
    torch.testing.assert_close(model.classify(masks, texts)[0, :, :3], used * torch.eye(2, 3))


def test_published_recipes_state_the_published_numbers() -> None:
    catseg, san = segment_recipe("catseg-b"), segment_recipe("san-b")
    assert (catseg.max_steps, catseg.batch_size, catseg.lr, catseg.clip_norm, catseg.crop) == (
        80_000,
        4,
        2e-4,
        0.01,
        384,
    )
    assert (catseg.train_clip, catseg.schedule, catseg.warmup_steps) == ("queries-values", "cosine", 0)
    assert (san.max_steps, san.batch_size, san.lr, san.schedule, san.crop) == (60_000, 32, 1e-4, "poly", 640)
    assert san.shortest == (320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960)
    assert segment_recipe("catseg-l").image_size == 336
    assert segment_recipe("catseg-v1-b").train_clip == "visual-attention"
    assert all(isinstance(recipe(), SegmentationTrainConfig) for recipe in SEGMENT_RECIPES.values())
