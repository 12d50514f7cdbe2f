"""Long folders: the list of their pictures is one text, and is what a list of paths was."""

import os
import tracemalloc
from pathlib import Path

import pytest

from clipself.data.images import find_pictures
from clipself.data.images.folder import FolderPictures
from clipself.data.sources import ImageFolder
from clipself.engine.task import digest_of

NAMES = [
    "b.png",
    "a/2.jpg",
    "a/10.jpg",
    "a-b/1.png",
    "a/b.c.png",
    "a b/é.png",
    "ä.png",
    "z/y/x/w.JPG",
    "A.png",
    "a.jpg",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in [*NAMES, "a/notes.txt", ".hidden.png", "plain", "dot."]:
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.symlink("nowhere", tmp_path / "pictures/link.png")
    os.symlink("round.png", tmp_path / "pictures/round.png")
    os.symlink("a", tmp_path / "pictures/again")
    return tmp_path / "pictures"


def test_they_are_the_paths_in_their_order(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="clipself")
    images = ImageFolder(folder)
    assert list(images.paths) == sorted(folder / name for name in NAMES) == find_pictures(folder).paths
    assert list(images.names) == [os.path.relpath(path, folder) for path in images.paths]
    assert digest_of(images.names) == digest_of([os.path.relpath(path, folder) for path in images.paths])
    said = "10 pictures; passed over: 2 broken links, 2 without suffix, 1 .txt, 1 hidden"
    assert [record.message for record in caplog.records] == [said, said]
    assert images.paths[-1] == images.paths[9]
    assert list(images.paths[2:4]) == [images.paths[2], images.paths[3]]
    with pytest.raises(IndexError, match="picture 10 of 10"):
        _ = images.paths[10]


def test_names_that_are_no_text_stay_what_they_are(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    pictures = FolderPictures(tmp_path, [name, "b.png"])
    assert [os.fsencode(path.name) for path in pictures] == [b"caf\xe9.png", b"b.png"]


def test_a_list_of_many_is_little_more_than_their_names() -> None:
    names = [f"{number // 1000:04d}/{number:012d}.jpg" for number in range(50_000)]
    tracemalloc.start()
    pictures = FolderPictures(Path("/data"), names)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 50_000 * (len(names[0]) + 8) * 1.1
    assert pictures[49_999] == Path("/data/0049/000000049999.jpg")
    assert list(pictures.names) == names
