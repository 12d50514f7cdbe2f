"""Pictures of files and folders: each once, and a word on what was passed over; names that never meet."""

import logging
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from clipself.data.images import distinct_names, find_maps, find_pictures
from clipself.data.images import formats as formats_room
from clipself.data.sources import ImageFolder


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg", ".JPG", ".tif"):
            Image.new("RGB", (4, 3)).save(path)
        else:
            path.write_bytes(b"x")


def test_what_is_passed_over_is_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats_room, "find_spec", lambda name: None)
    make(
        tmp_path,
        "a.png",
        "sub/b.JPG",
        "sub/deep/c.tif",
        "a.heic",
        "b.heif",
        "c.heic",
        "notes.txt",
        "sub/README",
        ".x/d.png",
    )
    os.symlink(tmp_path / "gone", tmp_path / "dangling.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dir.jpg").mkdir()
    with caplog.at_level(logging.INFO):
        found = find_pictures(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found.paths] == ["a.png", "sub/b.JPG", "sub/deep/c.tif"]
    said = (
        "3 pictures; passed over: 2 .heic (pip install 'clipself[heic]' to read it), "
        "1 .heif (pip install 'clipself[heic]' to read it), 1 .txt, 1 broken links, 1 hidden, 1 special files "
        "and 1 others"
    )
    assert found.describe() == said
    assert said in caplog.text
    monkeypatch.setattr(formats_room, "find_spec", lambda name: sys)
    assert len(find_pictures(tmp_path)) == 6


def test_a_link_is_searched_once_and_may_lead_back(tmp_path: Path) -> None:
    make(tmp_path, "store/1.png", "store/2.png", "tree/own/3.png", "tree/z/4.png")
    os.symlink(tmp_path / "store", tmp_path / "tree" / "a-link")
    os.symlink(tmp_path / "store", tmp_path / "tree" / "b-link")
    os.symlink(tmp_path / "tree", tmp_path / "tree" / "own" / "loop")
    os.symlink(tmp_path / "tree" / "z", tmp_path / "tree" / "a-z")
    os.symlink(tmp_path / "store" / "1.png", tmp_path / "tree" / "own" / "one.png")
    names = [str(path.relative_to(tmp_path / "tree")) for path in ImageFolder(tmp_path / "tree").paths]
    assert names == ["a-link/1.png", "a-link/2.png", "own/3.png", "own/one.png", "z/4.png"]


def test_files_strings_and_folders_mix_and_repeat_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/1.png", "b/1.png", "odd")
    monkeypatch.chdir(tmp_path)
    found = find_pictures(["b", Path("a/1.png"), "b/1.png", str(tmp_path / "a"), "odd"])
    assert [(str(one.path), one.name) for one in found] == [("b/1.png", "b/1"), ("a/1.png", "a/1"), ("odd", "odd")]
    assert [one.name for one in find_pictures("a")] == ["1"]
    assert [one.name for one in find_pictures("a/1.png")] == ["1"]


def test_nothing_to_find_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no pictures; pass files or folders"):
        find_pictures([])
    with pytest.raises(FileNotFoundError, match=r"no image at .*gone"):
        find_pictures([tmp_path / "gone"])
    make(tmp_path, "notes.txt")
    with pytest.raises(FileNotFoundError, match=r"holds no images; looked at any depth for .*; passed over: 1 \.txt"):
        find_pictures(tmp_path)


def test_folders_that_may_not_be_read_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.png", "shut/b.png")
    whole = os.scandir

    def scan(folder: Path) -> object:
        if folder.name == "shut":
            raise PermissionError(13, "Permission denied")
        return whole(folder)

    monkeypatch.setattr(os, "scandir", scan)
    assert find_pictures(tmp_path).passed_over == {"folders that may not be read": 1}


def test_maps_are_found_behind_links(tmp_path: Path) -> None:
    make(tmp_path, "store/1.png", "store/2.jpg", "maps/3.tif")
    os.symlink(tmp_path / "store", tmp_path / "maps" / "linked")
    assert [path.name for path in find_maps(tmp_path / "maps")] == ["3.tif", "1.png"]


def test_outputs_of_pictures_never_meet(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "b/1.png", "a/2.jpg", "a/2.png", "A/1.png", "c.png/1.jpg", "c.jpg")
    names = [one.name for one in find_pictures(tmp_path)]
    assert names == ["A/1.png", "a/1.png-2", "a/2.jpg", "a/2.png", "b/1", "c.jpg-2", "c.png/1"]
    for name in names:
        target = tmp_path / "out" / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("")
    assert len(list((tmp_path / "out").rglob("*.png"))) == len(names) + 1  # and the folder c.png


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(["../../etc/x.png", "/etc/x.png"], ["__/__/etc/x", "etc/x"], id="outside"),
        pytest.param(["a\x1b[2J.png", "a\n.png"], ["a_[2J", "a_"], id="control-characters"),
        pytest.param(["x.png", "x.jpg", "x.png.png"], ["x.png", "x.jpg", "x.png.png-2"], id="suffix-on-suffix"),
        pytest.param(["", ".."], ["picture", "__"], id="no-name"),
        pytest.param(["a.png", "a.png"], ["a.png", "a.png-2"], id="listed-twice"),
    ],
)
def test_names_stay_inside(files: list[str], expected: list[str]) -> None:
    assert distinct_names(files) == expected


def test_long_names_are_shortened_and_stay_apart(tmp_path: Path) -> None:
    files = [f"{'é' * 120}{end}.png" for end in ("a", "b")] + ["d" * 250 + "/" + "x" * 251 + ".png"]
    names = distinct_names(files)
    assert len(set(names)) == 3
    for name in names:
        assert all(len(part.encode()) <= 180 for part in name.split("/"))
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_text("")
    assert distinct_names(files[:1])[0] == names[0]  # whatever else is there
