"""The command line: help, whole jobs on drawn pictures, and every kind of bad input."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.pictures import draw_pictures, write_coco
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.cli.commands import COMMANDS
from clipself.cli.main import main
from clipself.distillation.clipself import ClipSelf
from clipself.engine.log import read_metrics

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures, a model and annotations; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    draw_pictures(tmp_path / "pictures", 4)
    save_clip(tiny_openai_clip(), tmp_path / "model")
    write_coco(tmp_path, {f"{i}.png": [[5, 5, 30, 30]] for i in range(4)})
    return tmp_path


DISTILL = (
    "distill --data pictures --out run --model ./model --image-size 64 --max-steps 4 --batch-size 2 --workers 0 "
    "--precision fp32 --device cpu"
)
EVALUATE = (
    "evaluate regions --model ./model --annotations instances.json --images pictures --image-size 64 --device cpu"
)


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from clipself.cli.main import main; main(['--help'])\n"
        "try: main(['distill', '--help'])\n"
        "except SystemExit: pass\n"
        "try: main(['evaluate', 'regions', '--help'])\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, 'open_clip' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "False False"
    for command in COMMANDS:
        assert f"  {command}" in done.stdout
    assert "default: clipself-mini" in done.stdout


def test_version_and_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("clipself 0.")
    assert main(["distil"]) == 2
    assert "did you mean 'distill'" in capsys.readouterr().err


def test_a_family_of_commands_is_listed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["detect"], ["detect", "--help"]):
        assert main(words) == 0
        listed = capsys.readouterr().out
        assert "  detect train" in listed
        assert "segment" not in listed
    assert main(["detect", "trains", "--out", "run"]) == 2
    said = capsys.readouterr().err
    assert "unknown command 'detect trains'; did you mean 'detect train'?" in said
    assert "segment" not in said


def test_distil_evaluate_blend_convert_show(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(DISTILL.split()) == 0
    assert main([*EVALUATE.split(), "--model", "./model", "run/blended", "--out", "scores"]) == 0
    assert "run/blended" in capsys.readouterr().out
    assert len(list((world / "scores").glob("*.json"))) == 2
    assert (
        main(
            [
                "blend",
                "--student",
                "run/student",
                "--original",
                "./model",
                "--out",
                "sweep",
                "--alphas",
                "0",
                "0.5",
                "1",
            ]
        )
        == 0
    )
    assert sorted(path.name for path in (world / "sweep").iterdir()) == ["alpha-0.00", "alpha-0.50", "alpha-1.00"]
    assert main(["convert", "--model", "./model", "--out", "again"]) == 0
    pictures = ["pictures/0.png", "pictures/1.png"]
    options = ["--model", "./model", "--refined", "run/student", "--image-size", "64", "--device", "cpu"]
    assert main(["show", "kmeans", *pictures, *options, "--clusters", "3", "--out", "k.png"]) == 0
    assert main(["show", "query", "a cat", *pictures, *options, "--out", "q.png"]) == 0
    for name in ("k.png", "q.png"):
        with Image.open(world / name) as picture:
            assert picture.height == 2 * (280 + 26 + 8)


def test_a_rerun_is_bit_equal_and_the_loss_falls(world: Path) -> None:
    words = DISTILL.replace("--max-steps 4", "--max-steps 20").split()
    assert main([*words, "--recipe", "modern"]) == 0
    again = ["other" if word == "run" else word for word in words]
    assert main(again) == 0
    losses = [[record["loss"] for record in read_metrics(world / run)] for run in ("run", "other")]
    assert losses[0] == losses[1]
    assert sum(losses[0][-3:]) < 0.8 * sum(losses[0][:3])


def test_parity_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parity", str(GOLDEN / "clipself_preprocess.json"), "--json", str(tmp_path / "p.json")]) == 0
    assert json.loads((tmp_path / "p.json").read_text())[0]["passed"] is True
    (tmp_path / "later.json").write_text('{"system": "of next year"}')
    assert main(["parity", str(tmp_path / "later.json")]) == 1
    assert "not a system that this version can check" in capsys.readouterr().out


def test_scenes_command(tmp_path: Path) -> None:
    assert main(["scenes", "--out", str(tmp_path / "s"), "--train", "1", "--val", "1", "--size", "64", "96"]) == 0
    assert (tmp_path / "s/annotations/panoptic_val.json").exists()


Prepare = Callable[[Path, pytest.MonkeyPatch], Any]


def damage_one(world: Path, _: pytest.MonkeyPatch) -> None:
    (world / "pictures/1.png").write_bytes((world / "pictures/1.png").read_bytes()[:200])


def empty_folder(world: Path, _: pytest.MonkeyPatch) -> None:
    for path in (world / "pictures").iterdir():
        path.unlink()


def lose_an_image(world: Path, _: pytest.MonkeyPatch) -> None:
    (world / "pictures/2.png").unlink()


def boxes(*rows: list[float]) -> Prepare:
    return lambda world, _: write_coco(world, {"0.png": list(rows)})


def full_disk(world: Path, patch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(torch, "save", full)


def other_architecture(world: Path, _: pytest.MonkeyPatch) -> None:
    save_clip(tiny_eva_clip(), world / "eva")
    (world / "model/open_clip_model.safetensors").write_bytes((world / "eva/open_clip_model.safetensors").read_bytes())


def poison(world: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ClipSelf, "embed_crops", lambda self, batch: torch.full((batch.num_regions, 32), torch.inf))


def no_proposals(world: Path, _: pytest.MonkeyPatch) -> None:
    (world / "proposals.json").write_text("[]")


def interrupt(world: Path, patch: pytest.MonkeyPatch) -> None:
    def stop(self: object, batch: object) -> None:
        raise KeyboardInterrupt

    patch.setattr(ClipSelf, "embed_crops", stop)


def nothing(world: Path, _: pytest.MonkeyPatch) -> None:
    pass


PROPOSALS = "--regions proposals --annotations instances.json"


@pytest.mark.parametrize(
    ("prepare", "words", "code", "message"),
    [
        pytest.param(damage_one, f"{DISTILL} --no-skip-unreadable", 2, "1.png is damaged or cut short", id="truncated"),
        pytest.param(empty_folder, DISTILL, 2, "holds no images; looked at any depth for", id="empty-folder"),
        pytest.param(lose_an_image, EVALUATE, 2, "1 of 4 images named by instances.json are missing", id="missing"),
        pytest.param(boxes([30, 5, -20, 5]), EVALUATE, 2, "annotations[0]", id="box-swapped"),
        pytest.param(boxes([300, 5, 20, 5]), EVALUATE, 2, "lies outside the image", id="box-outside"),
        pytest.param(boxes([3, 5, 0, 5]), EVALUATE, 2, "1 boxes without width or height passed over", id="box-empty"),
        pytest.param(boxes([float("nan"), 5, 9, 5]), EVALUATE, 2, "is not finite", id="box-nan"),
        pytest.param(boxes(), EVALUATE, 2, "holds no annotations", id="no-annotations"),
        pytest.param(
            boxes([30, 5, -20, 5]), f"{DISTILL} {PROPOSALS} --batch-size 1", 2, "swapped corners", id="proposal-swapped"
        ),
        pytest.param(
            no_proposals,
            f"{DISTILL} {PROPOSALS} --proposals proposals.json",
            2,
            "holds no proposals",
            id="no-proposals",
        ),
        pytest.param(nothing, DISTILL.replace("./model", "ViT-B-61"), 2, "the nearest names are", id="unknown-model"),
        pytest.param(nothing, f"{EVALUATE} --readout maskclop", 2, "did you mean 'maskclip'", id="unknown-readout"),
        pytest.param(nothing, f"{DISTILL} --recipe modren", 2, "did you mean 'modern'", id="unknown-recipe"),
        pytest.param(other_architecture, DISTILL, 2, "missing: visual.", id="other-architecture"),
        pytest.param(full_disk, DISTILL, 2, "no space left to write run/training_state.pt", id="full-disk"),
        pytest.param(poison, DISTILL, 2, "the loss is nan at step 1", id="non-finite-loss"),
        pytest.param(interrupt, DISTILL, 130, "stopped", id="ctrl-c"),
        pytest.param(nothing, f"{DISTILL} --image-size 50", 2, "no multiple of the patch of 8", id="image-size"),
        pytest.param(nothing, f"{DISTILL} --device cuda:7", 2, "sees no CUDA device", id="no-gpu"),
    ],
)
def test_bad_input(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    prepare: Prepare, words: str, code: int, message: str,
) -> None:  # fmt: skip
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    prepare(world, monkeypatch)
    assert main(words.split()) == code
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_masks_without_area_and_odd_pictures_are_no_trouble(world: Path) -> None:
    grey = np.full((20, 30), 90, dtype=np.uint8)
    Image.fromarray(grey).save(world / "pictures/grey.png")
    Image.fromarray(grey).convert("CMYK").save(world / "pictures/cmyk.jpg")
    Image.fromarray(grey.astype(np.uint16) * 200).save(world / "pictures/deep.png")
    Image.fromarray(grey).convert("P").save(world / "pictures/palette.png")
    Image.new("RGB", (90, 1)).save(world / "pictures/line.png")
    assert main(DISTILL.replace("--batch-size 2", "--batch-size 9").split()) == 0
    held = json.loads((world / "instances.json").read_text())
    with Image.open(world / "pictures/0.png") as picture:
        width, height = picture.size
    for annotation in held["annotations"]:
        annotation["segmentation"] = {"size": [height, width], "counts": [height * width]}
    (world / "instances.json").write_text(
        json.dumps({**held, "images": held["images"][:1], "annotations": held["annotations"][:1]})
    )
    assert main(EVALUATE.split()) == 0


def test_what_was_computed_stays_when_the_disk_is_full(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*DISTILL.split(), "--save-every", "2"]) == 0
    kept = [world / "run" / name for name in ("training_state.pt", "student/open_clip_model.safetensors")]
    before = [path.read_bytes() for path in kept]
    full_disk(world, monkeypatch)
    assert main(["distill", "--out", "run", "--resume", "--max-steps", "6"]) == 2
    assert [path.read_bytes() for path in kept] == before
    assert len(read_metrics(world / "run")) >= 4
    assert not list((world / "run").rglob("*.part"))


def test_debug_keeps_the_traceback(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown model"):
        main(DISTILL.replace("./model", "ViT-B-61").split())


def test_as_a_module(world: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clipself", "--version"], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout.startswith("clipself ")


def test_a_name_of_several_words_may_be_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data check", "nothing.json"]) == main(["data", "check", "nothing.json"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == said[1] == "clipself: error: no annotation file at nothing.json; check the path"
