"""What every prediction takes: pictures of any kind and names in any form, in all families the same."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.detection import tiny_detector
from tests.support.pictures import draw_pictures
from tests.support.tiny import tiny_openai_clip
from tests.support.toys.masks import ColourMasks

import clipself
from clipself.backbones.export import save_clip
from clipself.detection.checkpoint import save_detector
from clipself.panoptic.generators.table import GENERATORS

PREDICTIONS: Final[Mapping[str, tuple[Callable[..., Any], Mapping[str, Any]]]] = {
    "detect": (clipself.predict_images, {"checkpoint": "detector", "threshold": 0.0}),
    "segment": (clipself.predict_segments, {"model": "./clip", "templates": "simple"}),
    "panoptic": (
        clipself.predict_panoptic,
        {
            "model": "./clip",
            "checkpoint": "toy:0.01",
            "scores": "generator",
            "judge": {"image_size": 64, "templates": "simple"},
        },
    ),
}
"""Command -> its function and what it needs here."""
every = pytest.mark.parametrize("name", PREDICTIONS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictions")
    draw_pictures(folder / "photos", 2)
    save_clip(tiny_openai_clip(layers=4), folder / "clip")
    save_detector(tiny_detector(score_threshold=0.0), folder / "detector", model=str(folder / "clip"), card={})
    return folder


@pytest.fixture(autouse=True)
def world(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(GENERATORS, "toy", lambda source, device: ColourMasks(source))
    monkeypatch.setenv("CLIPSELF_CACHE", str(made / "cache"))
    monkeypatch.chdir(made)
    return made


def predict(name: str, out: Path, images: Any, names: Any = "red, green") -> dict[str, Any]:
    function, given = PREDICTIONS[name]
    function(images=images, names=names, out=str(out), device="cpu", **given)
    held: dict[str, Any] = json.loads((out / "results.json").read_text())
    return held


def answers(held: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was found, without what it is called."""
    called = ("image", "file", "picture", "map", "panoptic")
    return [{key: value for key, value in row.items() if key not in called} for row in held["images"]]


@every
def test_opened_pictures_have_the_answers_of_their_files(name: str, tmp_path: Path) -> None:
    files = ["photos/0.png", "photos/1.png"]
    expected = predict(name, tmp_path / "files", files)
    assert answers(expected)[0] != answers(expected)[1]
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    for kind, given in (
        ("folder", "photos"),
        ("paths", tuple(map(Path, files))),
        ("opened", [Image.open(file) for file in files]),
        ("arrays", arrays),
        ("mixed", [files[0], torch.from_numpy(arrays[1].copy()).permute(2, 0, 1)]),
        ("generator", (Image.fromarray(array) for array in arrays)),
    ):
        held = predict(name, tmp_path / kind, given)
        assert answers(held) == answers(expected), kind
        assert all((tmp_path / kind / row["picture"]).is_file() for row in held["images"])
    assert answers(predict(name, tmp_path / "one", arrays[0])) == answers(expected)[:1]
    called = [row["file"] for row in json.loads((tmp_path / "opened" / "results.json").read_text())["images"]]
    assert called == ["0.png", "1.png"]  # an opened picture knows its file
    called = [row["picture"] for row in json.loads((tmp_path / "arrays" / "results.json").read_text())["images"]]
    assert called == ["pictures/picture_1.png", "pictures/picture_2.png"]


@every
def test_names_are_one_grammar(name: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("red\ngreen\n")
    for place, names in enumerate(("red, green", ["red", "green"], ("red,green",), str(tmp_path / "names.txt"))):
        assert predict(name, tmp_path / str(place), "photos/0.png", names)["names"] == ["red", "green"]
    assert predict(name, tmp_path / "more", "photos/0.png", "hot_dog")["names"] == ["hot_dog"]


@every
def test_what_is_no_picture_is_said(name: str, tmp_path: Path) -> None:
    for wrong, kind, message in (
        (3, ValueError, "a picture is a path, a PIL image, an array .* not int"),
        ([], ValueError, "there are no pictures; pass files or folders"),
        ("gone.png", FileNotFoundError, r"no image at gone\.png"),
    ):
        with pytest.raises(kind, match=message):
            predict(name, tmp_path / "out", wrong)
    function, given = PREDICTIONS[name]
    with pytest.raises(ValueError, match="there is no setting image; did you mean images"):
        function(image="photos", names="cat", **given)
    assert not (tmp_path / "out").exists()
