"""The detection commands from train to proposals, on drawn pictures."""

import contextlib
import json
from pathlib import Path

import pytest
from tests.support.detection import write_blocks
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.cli.main import main


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    write_blocks(tmp_path, 4)
    save_clip(tiny_openai_clip(layers=4), tmp_path / "model")
    (tmp_path / "novel.txt").write_text("fish\n")
    return tmp_path


TRAIN = (
    "detect train --annotations instances.json --images pictures --novel novel.txt --out run --model ./model "
    "--max-steps 3 --batch-size 2 --workers 0 --precision fp32 --device cpu --detector.image-size 64 "
    "--detector.taps 0 1 2 3 --detector.channels 16 --detector.score-threshold 0.02"
)


def test_train_evaluate_predict_propose(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TRAIN.split()) == 0
    assert "3 steps, loss" in capsys.readouterr().out
    assert main(TRAIN.split()) == 2
    assert "already holds a run" in capsys.readouterr().err
    on = "--annotations instances.json --images pictures --device cpu"
    assert main(f"detect evaluate --checkpoint run {on} --out scores".split()) == 0
    assert "AP50 novel" in capsys.readouterr().out
    by = ["--checkpoint", "run", "--device", "cpu"]
    assert main(["detect", "predict", "pictures/0.png", "--names", "cat", "yak", "--out", "drawn", *by]) == 0
    assert [path.name for path in (world / "drawn" / "pictures").iterdir()] == ["0.png"]
    assert main(["proposals", "--checkpoint", "run", "--images", "pictures", "--out", "boxes", "--device", "cpu"]) == 0
    assert "clipself distill --regions proposals" in capsys.readouterr().out
    split = ["--annotations", "instances.json", "--out", "base.json", "--novel", "novel.txt"]
    assert main(["detect", "split", *split]) == 0
    assert "3 base and 1 novel classes" in capsys.readouterr().out
    assert {row["category_id"] for row in json.loads((world / "base.json").read_text())["annotations"]} <= {1, 2, 3}


def test_published_recipes_show_their_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["detect", "train", "--recipe", "ov-lvis-b16", "--help"])
    shown = capsys.readouterr().out
    assert "1024" in shown
    assert "ov-coco-l14" in shown


def test_bad_input(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        main([*TRAIN.split(), "--split", "ov-coco"])
    assert "already names base and novel" in " ".join(capsys.readouterr().err.split())
    on = ["--annotations", "instances.json", "--images", "pictures"]
    assert main(["detect", "evaluate", "--checkpoint", "nothing", *on]) == 2
    assert "no detector.json with detector.safetensors" in capsys.readouterr().err
