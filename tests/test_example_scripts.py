"""The scripts of examples/ do what they say, on little."""

import importlib.util
import inspect
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from clipself.data.photographs import PHOTOS
from clipself.data.scenes import write_scenes

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
PAGE = ROOT / "docs/scripts.md"


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"examples/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_and_on_the_page(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert f"python examples/{path.name}" in PAGE.read_text(encoding="utf-8")
    assert not re.search(r"clipself[\w.]*\._|import _", text), "examples show what is public"


def test_printed_commands_have_flags_that_exist() -> None:
    pages = [PAGE, ROOT / "docs/results.md", ROOT / "docs/labelling.md", *SCRIPTS]
    lines = "\n".join(page.read_text(encoding="utf-8") for page in pages).replace("\\\n", " ")
    printed = re.findall(r"^ *python examples/(\w+)\.py(.*)$", lines, flags=re.M)
    assert {name for name, _ in printed} == {path.stem for path in SCRIPTS}
    for name, rest in printed:
        words = shlex.split(rest, comments=True)
        known = set(inspect.signature(script(name).main).parameters)
        assert {word[2:].replace("-", "_") for word in words if word.startswith("--")} <= known, (name, rest)


def test_a_picture_is_found_by_a_part_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    finder = script("find_pictures")
    answers = finder.main(words=("a cat",), like=PHOTOS["coffee"], box=(200, 100, 360, 260), side=160, top=2)
    (found, score, (x, y)), (_, second, _) = answers["like coffee.jpg"]
    assert found == PHOTOS["coffee"]
    assert 0.5 < score <= 1.001
    assert second < score
    assert 120 < x < 440, "the place lies in the box, or a patch beside it"
    assert 20 < y < 340
    assert answers["a cat"][0][1] >= answers["a cat"][1][1]
    assert "coffee.jpg  at" in capsys.readouterr().out


@pytest.mark.slow
def test_boxes_take_the_place_of_names(tmp_path: Path) -> None:
    few = script("few_shot_detection")
    scenes = write_scenes(tmp_path / "scenes", train=2, val=1, size=(160, 160))
    labels = scenes / "annotations/instances_train.json"
    scores = few.main(
        annotations=labels, example_images=scenes / "train", images=scenes / "train", truth=labels, shots=1
    )
    assert set(scores) == {"examples", "words"}
    assert scores["examples"] > 10, "things are found again where they were shown"


@pytest.mark.slow
def test_distilling_brings_regions_nearer_to_their_crops(tmp_path: Path) -> None:
    distil = script("distil_my_photos")
    before, after = distil.main(steps=3, side=96, held_out=1, out=tmp_path)
    assert -1 < before < after < 1
    assert (tmp_path / "kmeans.png").stat().st_size > 0
    boxes = distil.grid_boxes(90, 60, cells=3)
    assert boxes[0].tolist() == [0, 0, 20, 30]
    assert boxes[-1].tolist() == [40, 60, 60, 90]


@pytest.mark.slow
def test_labels_train_torchvisions_detector(tmp_path: Path) -> None:
    train = script("label_then_train")
    scenes = write_scenes(tmp_path / "scenes", train=2, val=1, size=(128, 128))
    labels = scenes / "annotations/instances_train.json"
    ap50 = train.main(
        images=scenes / "train", annotations=labels, truth=labels, truth_images=scenes / "train", epochs=25,
        batch_size=2, side=128, out=tmp_path,
    )  # fmt: skip
    assert ap50 > 50, "two pictures are learnt by heart"
    held = torch.load(tmp_path / "detector.pt", weights_only=True)
    names = [each["name"] for each in json.loads(labels.read_text())["categories"]]
    assert held["names"] == names
    train.make_detector(len(names), 128).load_state_dict(held["weights"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in SCRIPTS])
def test_a_script_runs_without_any_words(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script(name).main()
