"""A new mask generator is one file and one line of a table: it evaluates, predicts and is asked again as all others."""

import json
from pathlib import Path

import pytest
from tests.support.panoptic import NAMES, write_world
from tests.support.tiny import tiny_openai_clip
from tests.support.toys.masks import ColourMasks

from clipself.backbones.export import save_clip
from clipself.cli.main import main
from clipself.data.images import read_image
from clipself.panoptic.generators.table import GENERATORS, open_generator
from clipself.panoptic.judge import ClipJudge
from clipself.panoptic.segmenter import PanopticSegmenter


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(GENERATORS, "toy", lambda source, device: ColourMasks(source))
    write_world(tmp_path / "world", count=2, void=False)
    save_clip(tiny_openai_clip(), tmp_path / "clip")
    return tmp_path


def test_it_evaluates_and_predicts(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["--checkpoint", "toy:0.01", "--model", str(world / "clip"), "--scores", "generator", "--judge.image-size",
              "64", "--device", "cpu"]  # fmt: skip
    images = str(world / "world" / "images")
    assert main(["panoptic", "evaluate", "--annotations", str(world / "world" / "panoptic.json"), "--images", images,
                 "--out", str(world / "scores"), *shared]) == 0  # fmt: skip
    held = json.loads((world / "scores" / "scores.json").read_text())
    assert (held["images"], held["listed"], held["without_masks"], held["without_truth"]) == (2, 2, 0, [])
    assert held["rows"][0]["quality"]["overall"]["pq"] > 95  # half the size costs a border
    assert "2 of 2 pictures, 3 of 3 names occur there" in capsys.readouterr().out
    words = ["panoptic", "predict", images, "--names", *NAMES, "--stuff", "blue ground", "--out", str(world / "found")]
    assert main([*words, *shared]) == 0
    results = json.loads((world / "found" / "results.json").read_text())
    assert [sorted(one["name"] for one in row["segments"]) for row in results["images"]] == [sorted(NAMES)] * 2


def test_it_is_asked_again(world: Path) -> None:
    segmenter = PanopticSegmenter(
        open_generator("toy:0.01"), ClipJudge(tiny_openai_clip(), image_size=64), NAMES, scores="generator"
    )
    picture = read_image(sorted((world / "world" / "images").glob("*.png"))[0])
    first = segmenter(picture).panoptic
    segmenter.use(["green thing", "blue sky", "red brick"])
    again = segmenter.segment().panoptic
    assert {one.label for one in first.segments} == {one.label for one in again.segments} == {0, 1, 2}
    assert {again.names[one.label] for one in again.segments} == {"green thing", "blue sky", "red brick"}
    with pytest.raises(ValueError, match="unknown kind of mask generator 'toys'"):
        open_generator("toys:1")
