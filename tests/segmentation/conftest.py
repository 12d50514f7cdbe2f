"""A folder with scenes and three tiny models, made once and worked in by every test of this room that asks for it."""

from pathlib import Path

import pytest
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.data.scenes.export import write_scenes


@pytest.fixture(scope="session")
def segmentation_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmentation")
    write_scenes(folder / "scenes", train=8, val=2, size=(96, 96))
    save_clip(tiny_openai_clip(layers=6), folder / "openai")
    save_clip(tiny_openai_clip(seed=1, layers=6), folder / "other")
    save_clip(tiny_eva_clip(layers=6), folder / "eva")
    return folder


@pytest.fixture
def world(segmentation_world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(segmentation_world)
    monkeypatch.setenv("CLIPSELF_CACHE", str(segmentation_world / "cache"))
    return segmentation_world
