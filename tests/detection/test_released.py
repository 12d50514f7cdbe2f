"""Released checkpoints go one way: what has no reader, no file or no text tower is told, and cards name files alone."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.tiny import tiny_resnet_clip

from clipself.backbones import TowerIdentity
from clipself.data.detection import ClassSplit
from clipself.detection.detectors.table import DETECTORS, make_settings
from clipself.detection.released import Release, import_released

SAID: dict[str, Any] = {
    "model": "nowhere",
    "pretrained": None,
    "classes": ClassSplit(ids=(1,), names=("cat",), is_base=(True,)),
}


@pytest.mark.parametrize("method", sorted(DETECTORS))
def test_a_missing_file_is_told_ahead_of_everything_else(method: str, tmp_path: Path) -> None:
    settings = make_settings(method)
    if DETECTORS[method].published is None:
        with pytest.raises(ValueError, match=f"there is no released checkpoint of {method}"):
            import_released(tmp_path / "file.pth", tmp_path / "out", settings=settings, **SAID)
    else:
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*file\.pth"):
            import_released(tmp_path / "file.pth", tmp_path / "out", settings=settings, **SAID)
    assert not (tmp_path / "out").exists()


def test_a_clip_without_a_text_tower_speaks_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tiny_resnet_clip()
    monkeypatch.setattr("clipself.detection.released.load_clip", lambda *_, **__: clip)
    release = Release(weights=tmp_path, settings=make_settings("detic"), **SAID)
    assert release.load_clip() is clip
    clip.identity = TowerIdentity(image="tiny", text=None)
    with pytest.raises(ValueError, match=r"needs a text tower; name its release with text_from"):
        release.load_clip()
