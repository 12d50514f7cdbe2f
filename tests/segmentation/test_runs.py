"""Whole runs through the command line: train, resume, evaluate, predict; two processes and cut steps equal one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.support.processes import in_two_processes
from tests.support.tiny import tiny_eva_clip

from clipself.backbones.loading import load_clip
from clipself.cli.main import main
from clipself.data.images import read_index_map
from clipself.engine.log import read_metrics
from clipself.segmentation.checkpoint import load_segmenter
from clipself.segmentation.train import train_segmenter

pytestmark = pytest.mark.usefixtures("world")

DATA = "--annotations scenes/annotations/panoptic_train.json --images scenes/train --base scenes/base.txt"
SMALL = "--crop 64 --shortest 64 --batch-size 2 --workers 0 --lr 1e-3 --clip-norm 1 --warmup-steps 0 --device cpu"
CATSEG = f"--segmenter.image-size 64 --segmenter.hidden 16 --segmenter.classes-per-step 6 {SMALL}"
SAN = (
    "--recipe small-san --segmenter.side-width 40 --segmenter.queries 8 --segmenter.num-points 64 "
    f"--segmenter.learn-positions {SMALL}"
)


def run(words: str) -> int:
    return main(words.split())


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "segmenter.safetensors")


def losses(folder: str | Path) -> list[float]:
    return [record["loss"] for record in read_metrics(folder)]


def largest_difference(one: str | Path, two: str | Path) -> float:
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        pytest.param("catseg", CATSEG, id="catseg"),
        pytest.param("catseg-all", f"{CATSEG} --segmenter.train-clip queries-values", id="catseg-queries-values"),
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
    learnt_clip = [name for name in weights(f"{method}-whole") if name.startswith("clip.")]
    assert bool(learnt_clip) == (method != "catseg")

    val = "--annotations scenes/annotations/panoptic_val.json --images scenes/val --device cpu"
    told = f"--out {method}-eval --save-maps --per-class --mode whole"
    assert run(f"segment evaluate --checkpoint {method}-whole {val} {told}") == 0
    printed = capsys.readouterr().out
    assert "mIoU novel" in printed
    assert printed.splitlines()[1].split() == ["IoU", "acc", "class"]  # --per-class
    assert "2 of 2 pictures" in printed
    (scores,) = Path(f"{method}-eval").rglob("scores.json")
    held = json.loads(scores.read_text())
    assert (held["images"], held["images_listed"], held["classes"]) == (2, 2, 94)
    assert held["classes_present"] + len(held["classes_absent"]) == 94
    assert 0 <= held["scores"]["mIoU"] <= 100
    assert len(list(Path(f"{method}-eval").rglob("maps/*.png"))) == 2
    with Image.open(next(Path(f"{method}-eval").rglob("pictures/*.png"))) as picture:
        assert picture.width > 3 * 290

    assert run(f"segment predict scenes/val/000000.jpg --checkpoint {method}-whole --out {method}-p --device cpu") == 0
    results = json.loads((Path(f"{method}-p") / "results.json").read_text())
    (image,) = results["images"]
    labels = read_index_map(Path(f"{method}-p") / image["map"])
    assert labels.shape == (96, 96)
    assert sum(row["share"] for row in image["classes"]) == pytest.approx(1, abs=1e-3)
    assert (labels == image["classes"][0]["index"]).mean() == pytest.approx(image["classes"][0]["share"], abs=1e-4)


def _train(words: str) -> None:
    tiny_eva_clip(layers=6)  # makes the name known to this process
    assert run(words) == 0


@pytest.mark.parametrize("learns", ["queries-values", "visual-attention"])
def test_two_processes_equal_one_where_clip_learns(learns: str, world: Path, tmp_path: Path) -> None:
    """On an EVA tower, whose last queries the dense map does not read: no process may wait for their gradient."""
    words = f"segment train --model {world}/eva {DATA} --segmenter.image-size 64 --segmenter.hidden 16 {SMALL}"
    words = words.replace("scenes/", f"{world}/scenes/")
    words += f" --segmenter.train-clip {learns} --segmenter.classes-per-step None --max-steps 3 --eps 1e-3"
    assert run(f"{words} --batch-size 4 --out {tmp_path / 'one'}") == 0
    in_two_processes(_train, f"{words} --out {tmp_path / 'two'}")
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), abs=1e-5)
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-5


def test_an_evaluation_within_a_run_scores_base_and_novel(tmp_path: Path) -> None:
    evaluate = (
        "--evaluate-every 2 --evaluate-annotations scenes/annotations/panoptic_val.json --evaluate-images scenes/val"
    )
    assert run(f"segment train --model ./openai {DATA} {CATSEG} --max-steps 2 {evaluate} --out {tmp_path / 'r'}") == 0
    (record,) = read_metrics(tmp_path / "r", kind="evaluation")
    assert {"mIoU", "mIoU base", "mIoU novel"} <= record.keys()


def test_what_is_withheld_is_told_by_base_or_by_novel(tmp_path: Path) -> None:
    novel = DATA.replace("--base scenes/base.txt", "--novel scenes/novel.txt")
    assert run(f"segment train --model ./openai {novel} {CATSEG} --max-steps 1 --out {tmp_path / 'n'}") == 0
    withheld = set(Path("scenes/novel.txt").read_text().split("\n")) - {""}
    learnt = json.loads((tmp_path / "n" / "segmenter.json").read_text())["names"]
    assert len(learnt) == 94 - len(withheld)
    assert not withheld & set(learnt)
    with pytest.raises(ValueError, match="choose one of them"):
        train_segmenter(annotations="x", images="y", out=tmp_path / "b", base="a.txt", novel="b.txt")


def test_a_resumed_run_sees_that_the_list_of_classes_was_edited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = Path("scenes/base.txt").read_text().splitlines()
    (tmp_path / "base.txt").write_text("\n".join(names) + "\n")
    data = DATA.replace("scenes/base.txt", str(tmp_path / "base.txt"))
    words = f"segment train --model ./openai {data} {CATSEG} --out {tmp_path / 'r'}"
    assert run(f"{words} --max-steps 1") == 0
    other = next(name for name in Path("scenes/novel.txt").read_text().splitlines() if name)
    (tmp_path / "base.txt").write_text("\n".join([*names[:-1], other]) + "\n")
    assert run(f"{words} --max-steps 2 --resume") == 2
    assert "classes was" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_strings_and_old_names_serve_in_python(tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "images": "scenes/train", "model": "./openai", "crop": 64, "shortest": [64], "batch_size": 2, "workers": 0,
        "max_steps": 1, "device": "cpu",
    }  # fmt: skip
    annotations = "scenes/annotations/panoptic_train.json"
    new = train_segmenter(
        annotations=annotations, base="scenes/base.txt", out=str(tmp_path / "new"), **common,
        segmenter={"image_size": 64, "hidden": 16, "classes_per_step": 6},
    )  # fmt: skip
    with pytest.warns(FutureWarning, match="hidden of SegmentationTrainConfig is now segmenter.hidden"):
        old = train_segmenter(
            data=annotations, seen="scenes/base.txt", out=str(tmp_path / "old"), **common,
            image_size=64, hidden=16, classes_per_step=6,
        )  # fmt: skip
    assert largest_difference(new.out, old.out) == 0.0
    with pytest.warns(FutureWarning, match="method of SegmentationTrainConfig is now segmenter.method"):
        san = train_segmenter(
            data=annotations, out=tmp_path / "san", **common, method="san", queries=4, side_width=40, num_points=16
        )
    assert load_segmenter(san.out)[0].settings.queries == 4
    with pytest.raises(ValueError, match=r"did you mean segmenter\.classes_per_step"):
        train_segmenter(annotations=annotations, out=tmp_path / "x", **common, segmenter={"class_per_step": 3})


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_flags_serve_on_the_command_line(tmp_path: Path) -> None:
    data = "--data scenes/annotations/panoptic_train.json --images scenes/train --seen scenes/base.txt"
    words = f"--image-size 64 --hidden 16 --classes-per-step 6 --train-clip none {SMALL} --max-steps 1"
    assert run(f"segment train --model ./openai {data} {words} --out {tmp_path / 'old'}") == 0
    assert run(f"segment train --model ./openai {DATA} {CATSEG} --max-steps 1 --out {tmp_path / 'new'}") == 0
    assert largest_difference(tmp_path / "old", tmp_path / "new") == 0.0
    san = "--method san --side-width 40 --queries 8 --num-points 64 --no-learn-positions"
    assert run(f"segment train --model ./openai {data} {san} {SMALL} --max-steps 1 --out {tmp_path / 'san'}") == 0
    assert not load_segmenter(tmp_path / "san")[0].settings.learn_positions
    val = "--data scenes/annotations/panoptic_val.json --images scenes/val --device cpu --mode whole --limit 1"
    assert run(f"segment evaluate --models {tmp_path / 'old'} {tmp_path / 'san'} {val}") == 0
    assert run(f"segment predict --model {tmp_path / 'old'} --images scenes/val --out {tmp_path / 'p'}") == 0


def test_a_class_that_never_occurs_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("images", "labels"):
        (tmp_path / "maps" / part).mkdir(parents=True)
    for index in range(2):
        labels = np.zeros((64, 64), dtype=np.uint8)
        labels[10:30, 10:30] = 255  # meant as the second class, read as unlabelled
        Image.fromarray(labels).save(tmp_path / "maps" / "labels" / f"{index}.png")
        Image.effect_noise((64, 64), 60).convert("RGB").save(tmp_path / "maps" / "images" / f"{index}.png")
    (tmp_path / "maps" / "names.txt").write_text("ground\ncat\n")
    words = f"--annotations {tmp_path / 'maps'} --model ./openai --device cpu"
    sizes = "--shortest 64 --window 64 --stride 64 --templates simple"
    assert run(f"segment table {words} --readouts value {sizes}") == 0
    assert "1 of 2 classes occur; never labelled: cat" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param("segment predict scenes/val --model ./openai", "was never trained on names", id="names"),
        pytest.param(
            "segment evaluate --checkpoint scenes --annotations x.json --images y", "no annotation file", id="data"
        ),
        pytest.param("segment train --recipe big --annotations x --out y", "unknown recipe 'big'", id="recipe"),
        pytest.param("segment train --segmenter.method sam --annotations x --out y", "unknown segmenter", id="method"),
    ],
)
def test_bad_input_is_a_sentence(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    assert said in capsys.readouterr().err


def test_a_model_on_another_clip_or_cut_short_is_refused() -> None:
    assert run(f"segment train --model ./openai {DATA} {CATSEG} --max-steps 1 --out one") == 0
    with pytest.raises(ValueError, match="was trained on another CLIP"):
        load_segmenter("one", clip=load_clip("./other"))
    with pytest.raises(FileNotFoundError, match=r"no segmenter.json with segmenter.safetensors"):
        load_segmenter("scenes")
    path = Path("one/segmenter.json")
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "settings": {**card["settings"], "method": "sam"}}))
    with pytest.raises(ValueError, match=r"segmenter\.json: method is 'sam', expected one of"):
        load_segmenter("one")
    card["settings"]["aggregator"]["hidden"] = 32
    path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"its own settings in segmenter\.json"):
        load_segmenter("one")
    assert run(f"segment train --model ./openai {DATA} {CATSEG} --max-steps 1 --out one") == 2  # it holds a run


@pytest.mark.parametrize(("method", "options"), [("catseg", CATSEG), ("san", SAN)])
def test_folders_of_earlier_versions_are_read(method: str, options: str, tmp_path: Path) -> None:
    """Their cards kept the method and what learns beside the settings, and fewer settings."""
    learns = "--segmenter.train-clip queries-values" if method == "catseg" else ""
    assert run(f"segment train --model ./openai {DATA} {options} {learns} --max-steps 1 --out {tmp_path / 'r'}") == 0
    model, card = load_segmenter(tmp_path / "r")
    kept = {
        "catseg": ("image_size", "taps", "readout", "templates", "synonyms", "appearance", "aggregator"),
        "san": ("split", "clip_scale", "cut_remainder", "templates", "logit_scale", "learn_positions", "side"),
    }[method]
    old = {
        "format": "clipself segmenter 1", "method": method, "model": card["model"], "pretrained": None, "crop": 64,
        "train_clip": "queries-values" if method == "catseg" else "none", "clip_hash": card["clip_digest"],
        "settings": {name: card["settings"][name] for name in kept}, "names": card["names"],
    }  # fmt: skip
    (tmp_path / "r" / "segmenter.json").write_text(json.dumps(old))
    again, card = load_segmenter(tmp_path / "r")
    assert card["names"] == old["names"]
    first, second = model.state_dict(), again.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
