"""What every training command does with its words."""

import json
import shutil
from pathlib import Path

import pytest
from tests.support.families import write_place

from clipself.cli.main import main
from clipself.engine.log import read_metrics

DISTILL = (
    "distill --data scenes/train --model ./clip --image-size 64 --max-regions 4 --batch-size 4 --workers 0 "
    "--device cpu --precision fp32 --save-every 2"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("commands"))


@pytest.fixture(autouse=True)
def there(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)


def run(words: str) -> int:
    try:
        return main(words.split())
    except SystemExit as stop:  # the reader of options ends so where a setting is refused
        return int(str(stop.code))


def settings(out: str) -> dict[str, object]:
    held: dict[str, object] = json.loads((Path(out) / "config.json").read_text())
    return held


def test_resume_needs_the_folder_alone_and_says_what_differs(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{DISTILL} --out run --max-steps 2 --lr 3e-4") == 0
    monkeypatch.chdir(tmp_path)  # from anywhere
    assert run(f"distill --out {world}/run --resume --max-steps 4") == 0
    assert settings(f"{world}/run")["lr"] == 3e-4
    assert len(read_metrics(world / "run")) == 4
    assert run(f"distill --out {world}/run --resume --lr 5e-4") == 2
    assert "lr was 0.0003 and is 0.0005" in capsys.readouterr().err
    assert run(f"distill --out {tmp_path}/nothing --resume") == 2
    assert "holds no run to go on with" in capsys.readouterr().err
    assert run(f"distill --out {world}/run --resume --overwrite") == 2
    assert len(read_metrics(world / "run")) == 4


def test_the_command_of_a_run_may_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{DISTILL} --recipe modern --out again --max-steps 2"
    assert run(words) == 0
    assert run(words) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert run(f"{words} --resume") == 0
    assert run(f"{words} --overwrite") == 0


def test_a_config_file_gives_the_defaults(tmp_path: Path) -> None:
    assert run(f"{DISTILL} --out first --max-steps 1 --lr 7e-4") == 0
    assert run("distill --config first/config.json --out second --seed 5") == 0
    assert settings("second") == {**settings("first"), "out": str(Path("second").absolute()), "seed": 5}
    (tmp_path / "run.yaml").write_text("lr: 0.0009\nmax_steps: 1\n")
    rest = DISTILL.removeprefix("distill ")
    assert run(f"distill --config {tmp_path / 'run.yaml'} --out third {rest}") == 0
    assert settings("third")["lr"] == 9e-4


def test_the_config_of_a_run_that_went_on_or_was_overwritten_begins_another() -> None:
    assert run(f"{DISTILL} --out gone-on --max-steps 1") == 0
    assert run("distill --out gone-on --resume --max-steps 2") == 0
    assert run("distill --config gone-on/config.json --out new") == 0
    assert run("distill --config gone-on/config.json --out new --overwrite") == 0
    assert run("distill --config new/config.json --out gone-on") == 2  # overwrites nothing by itself


def test_the_result_is_printed_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{DISTILL} --out printed --max-steps 1") == 0
    assert "1 steps, loss" in capsys.readouterr().out
    monkeypatch.setenv("RANK", "1")  # of a process that is not the first
    assert run(f"{DISTILL} --out silent --max-steps 1") == 0
    assert capsys.readouterr().out == ""


def test_a_picture_that_cannot_be_read_is_told_once_and_counted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("scenes/train", tmp_path / "photos")
    (tmp_path / "photos/000003.jpg").write_bytes(b"damaged")
    words = DISTILL.replace("scenes/train", f"{tmp_path}/photos").replace("--workers 0", "--workers 2")
    assert run(f"{words} --out {tmp_path}/run --epochs 4") == 0
    said = capfd.readouterr()  # what the workers print, too
    assert said.err.count("000003.jpg is not an image that can be read") == 1
    assert "1 of 8 images could not be read, others took their place" in said.out


def test_a_length_in_epochs_takes_the_place_of_steps() -> None:
    assert run(f"{DISTILL} --out steps --max-steps 1") == 0
    assert run("distill --config steps/config.json --out epochs --epochs 1") == 0
    assert len(read_metrics("epochs")) == 2
