"""Pictures of a prediction: results of an earlier call that lie among them are none."""

from pathlib import Path

import pytest
from tests.support.pictures import draw_pictures

from clipself.detection.config import DetectionPredictConfig
from clipself.engine.pictures import resolve_pictures


def files_of(out: Path, *images: Path) -> list[str]:
    _, found = resolve_pictures(DetectionPredictConfig, images=list(images), names=["cat"], out=out)
    return [picture.file for picture in found]


def test_results_among_the_pictures_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = draw_pictures(tmp_path / "photos", 2)
    draw_pictures(photos / "out" / "pictures", 2)
    draw_pictures(photos / "outside", 1)
    assert files_of(photos / "out", photos) == ["0.png", "1.png", "outside/0.png"]
    assert "2 pictures in" in caplog.text
    assert len(files_of(tmp_path / "elsewhere", photos)) == 5
    named = photos / "out" / "pictures" / "1.png"  # what is asked for itself is taken
    assert sorted(files_of(photos / "out", photos, named)) == ["0.png", "1.png", "out/pictures/1.png", "outside/0.png"]
    assert files_of(photos / "out", named.parent) == ["0.png", "1.png"]


def test_nothing_but_results_is_said(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "photos" / "out", 2)
    with pytest.raises(FileNotFoundError, match=r"no pictures but those in .*out, where results go"):
        files_of(tmp_path / "photos" / "out", tmp_path / "photos")
