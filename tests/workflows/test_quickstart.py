"""The quickstart, shortened: a report whose pictures are all there, and a refined model beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

import clipself
from clipself.backbones.loading import load_clip
from clipself.data.photographs import PHOTOS
from clipself.workflows import quickstart_page


def test_every_photograph_of_the_story_is_packaged() -> None:
    asked = {*quickstart_page.STORIES, *quickstart_page.DETECTED}
    assert asked <= set(PHOTOS)
    assert len(PHOTOS) >= 10


def test_a_short_quickstart_leaves_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = __import__("clipself.workflows.quickstart", fromlist=["quickstart"])
    monkeypatch.setattr(module, "IMAGE_SIZE", 96)
    monkeypatch.setattr(quickstart_page, "SIDE", 96)
    monkeypatch.setattr(quickstart_page, "SCENES", (1,))
    monkeypatch.setattr(quickstart_page, "STORIES", {"moose": quickstart_page.STORIES["moose"]})
    monkeypatch.setattr(quickstart_page, "DETECTED", {})
    result = clipself.quickstart(tmp_path / "report", scenes=2, held_out=2, steps=1)
    page = result.page.read_text()
    for kind in ("kmeans", "query", "segments"):
        for name in ("moose", "scene-1"):
            assert (result.page.parent / f"{kind}-{name}.png").is_file()
    assert (result.page.parent / "boxes-scene-1.png").is_file()
    assert page.count("<figure>") == 2 + 3 * 2 + 1
    assert "moose, grass, trees in moose" in page
    scores = json.loads((result.page.parent / "regions.json").read_text())
    assert [row["model"] for row in scores] == ["original", "refined"]
    assert load_clip(result.refined).embed_dim == 256
