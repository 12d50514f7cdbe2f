"""What every evaluation promises: it returns and does not print, and tells what it read of what is listed."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from tests.support.detection import tiny_detector, write_blocks
from tests.support.panoptic import write_world
from tests.support.tiny import tiny_openai_clip

from clipself import evaluate_detector, evaluate_panoptic, evaluate_regions
from clipself.backbones.export import save_clip
from clipself.cli.main import main
from clipself.data.coco.report import ReadReport
from clipself.data.semantic import IndexMaps
from clipself.detection import save_detector
from clipself.segmentation import training_free_table

FUNCTIONS: Final[Mapping[str, Any]] = {
    "evaluate regions": evaluate_regions,
    "detect evaluate": evaluate_detector,
    "segment table": training_free_table,
    "panoptic evaluate": evaluate_panoptic,
}
families = pytest.mark.parametrize("name", FUNCTIONS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files that list a picture twice, a CLIP and a detector."""
    folder = tmp_path_factory.mktemp("evaluations")
    write_blocks(folder / "boxes", count=2)
    write_world(folder / "maps", count=2, void=False)
    for file in (folder / "boxes/instances.json", folder / "maps/panoptic.json"):
        held = json.loads(file.read_text())
        held["images"].append(held["images"][0])
        file.write_text(json.dumps(held))
    save_clip(tiny_openai_clip(layers=4), folder / "clip")
    save_detector(tiny_detector(score_threshold=0.02), folder / "detector", model=str(folder / "clip"), card={})
    return folder


@pytest.fixture
def options(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Flags of a small evaluation, without dashes."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("CLIPSELF_CACHE", str(place / "cache"))
    maps = {"annotations": "maps/panoptic.json", "images": "maps/images", "model": "clip", "device": "cpu"}
    boxes = {"annotations": "boxes/instances.json", "images": "boxes/pictures", "device": "cpu"}
    given = {
        "evaluate regions": {**maps, "image_size": "64", "templates": "simple"},
        "detect evaluate": {**boxes, "checkpoint": "detector"},
        "segment table": {
            **maps,
            "readouts": "value",
            "shortest": "64",
            "window": "64",
            "stride": "64",
            "templates": "simple",
        },
        "panoptic evaluate": {**maps, "masks": "maps/panoptic.json"},
    }
    return given[name]


def told_of(result: Any) -> ReadReport:
    reading = (result[0] if isinstance(result, list) else result).reading
    assert isinstance(reading, ReadReport)
    return reading


@families
def test_it_returns_its_report_and_prints_nothing(
    name: str, options: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {"image_size", "shortest", "window", "stride"}
    result = FUNCTIONS[name](**{flag: int(value) if flag in numbers else value for flag, value in options.items()})
    assert capsys.readouterr().out == ""
    assert [(one.count, "listed twice" in one.what) for one in told_of(result).remarks] == [(1, True)]
    (report,) = result if isinstance(result, list) else (result,)
    assert report.to_json()["annotations"] == told_of(result).to_json()
    assert report.to_json()["annotations"]["listed"]["pictures"] == 2
    assert json.dumps(report.to_json(), allow_nan=False)


@families
def test_the_command_prints_it_once_and_ends_with_what_was_read(
    name: str, options: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        *name.split(),
        *(word for flag, value in options.items() for word in (f"--{flag.replace('_', '-')}", value)),
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.count("listed twice") == 1
    assert "2 of 2 pictures" in said.out.splitlines()[-1]
    assert len({line for line in said.err.splitlines() if "listed twice" in line}) == 1
    monkeypatch.setenv("RANK", "1")  # of a process that is not the first
    assert main(words) == 0
    said = capsys.readouterr()
    assert (said.out, said.err.count("listed twice")) == ("", 0)


def test_pictures_without_a_map_are_counted(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels").mkdir()
    for file in sorted((place / "maps/images").iterdir())[:1]:
        (tmp_path / "labels" / file.name).write_bytes(file.read_bytes())
    caplog.set_level(logging.INFO, logger="clipself")
    report = IndexMaps(place / "maps/images", tmp_path / "labels", ["a"]).report
    assert (dict(report.listed), dict(report.read)) == ({"pictures": 2, "maps": 1}, {"pictures": 1, "maps": 1})
    assert report.remarks[0].count == 1
    assert caplog.text.count("have no map") == 1
    monkeypatch.setenv("RANK", "3")
    IndexMaps(place / "maps/images", tmp_path / "labels", ["a"])
    assert caplog.text.count("have no map") == 1
