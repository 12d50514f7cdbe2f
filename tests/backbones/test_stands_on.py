import shutil
from pathlib import Path

import pytest
from tests.support.tiny import tiny_openai_clip

from clipself.backbones import save_clip
from clipself.backbones.stands_on import find_clip, name_clip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with an exported CLIP and a folder for heads, and that folder is the working one."""
    save_clip(tiny_openai_clip(), tmp_path / "project" / "refined")
    (tmp_path / "project" / "runs" / "heads").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_a_relative_backbone_is_found_from_anywhere_and_after_a_move(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = tiny_openai_clip().weights_hash("image")
    for given in ("refined", "./refined", "local-dir:refined", str(project / "refined")):
        named = name_clip(given, None, folder=Path("runs/heads"))
        assert named == {"model": "../../refined", "pretrained": None}
    monkeypatch.chdir(tmp_path)
    shutil.move(project, tmp_path / "moved")
    for folder in (Path("moved/runs/heads"), tmp_path / "moved" / "runs" / "heads"):
        clip = find_clip(named, folder=folder, digest=digest, part="image")
        assert clip.weights_hash("image") == digest


def test_runs_on_another_disk_behind_a_link_find_their_backbone(project: Path, tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep" / "runs" / "heads").mkdir(parents=True)
    (project / "linked").symlink_to(tmp_path / "disk" / "deep" / "runs")
    folder, digest = Path("linked/heads"), tiny_openai_clip().weights_hash()
    assert find_clip(name_clip("refined", None, folder=folder), folder=folder, digest=digest).num_taps == 2


def test_names_and_tags_stay_as_they_are_and_files_are_paths(project: Path) -> None:
    folder = project / "runs" / "heads"
    assert name_clip("clipself-mini", None, folder=folder)["model"] == "clipself-mini"
    assert name_clip("ViT-B/16", "openai", folder=folder) == {"model": "ViT-B/16", "pretrained": "openai"}
    (project / "weights.pt").touch()
    assert name_clip("ViT-B-16", "weights.pt", folder=folder)["pretrained"] == "../../weights.pt"


def test_a_backbone_that_is_gone_or_another_is_said(project: Path) -> None:
    folder, digest = project / "runs" / "heads", tiny_openai_clip().weights_hash()
    with pytest.raises(FileNotFoundError, match=r"stands on the CLIP at .*project/gone, which is not there"):
        find_clip({"model": "../../gone", "pretrained": None}, folder=folder, digest=digest)
    with pytest.raises(ValueError, match=f"was trained on another CLIP than .* expected {digest}"):
        find_clip({"model": "x", "pretrained": None}, folder=folder, digest=digest, clip=tiny_openai_clip(5))
