"""What lies in a folder: pictures at any depth, and what is passed over."""

import os
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from clipself.data.images.formats import PLUGIN_OF, SUFFIXES, is_readable
from clipself.data.images.made import MadePictures
from clipself.data.images.shard_files import SUFFIX
from clipself.data.images.video import VIDEO_SUFFIXES

MAP_SUFFIXES: Final = (".png", ".tif", ".tiff")


class FolderPictures(MadePictures):
    """Paths of pictures below a folder, made when they are asked for: of their names one text is held.

    Args:
        root: The folder.
        names: Below it, "/" between folders.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root = root
        said = [os.fsencode(name) for name in names]
        self._text = b"".join(said)
        self._ends = np.cumsum(np.fromiter(map(len, said), np.int64, len(said)))

    def __len__(self) -> int:
        return len(self._ends)

    def name(self, index: int) -> str:
        """A picture below the folder."""
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._text[start : int(self._ends[index])])

    def make(self, index: int) -> Path:
        """The path of a picture."""
        return self.root / self.name(index)


def find_maps(root: Path) -> list[Path]:
    """The files of index maps (PNG and TIFF) below a folder, searched as `find_pictures` does."""
    return [root / name for name in search(root, Counter()) if name.lower().endswith(MAP_SUFFIXES)]


def search(root: Path, passed_over: Counter[str]) -> list[str]:
    """Picture files below a folder, sorted part by part; folders of its own first, then what links lead to.

    Args:
        root: Searched at any depth, each folder once.
        passed_over: Takes what lies there besides -> how often.

    Returns:
        Their names below the folder, "/" between folders.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    folders, links = deque([""]), deque[str]()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        try:
            said = os.stat(root / folder)
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError:
            passed_over["folders that may not be read"] += 1
            continue
        if (said.st_dev, said.st_ino) in seen:
            continue
        seen.add((said.st_dev, said.st_ino))
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                passed_over["hidden"] += 1
            elif _is(entry.is_dir):
                (links if entry.is_symlink() else folders).append(name)
            elif kind := _kind(entry):
                passed_over[kind] += 1
            else:
                found.append(name)
    return sorted(found, key=lambda name: name.replace("/", "\0"))  # as paths are sorted: "a/b" ahead of "a-b"


def told(count: int, passed_over: Mapping[str, int]) -> str:
    """One line: how many pictures, and what was passed over."""
    said = f"{count} picture{'' if count == 1 else 's'}"
    if not passed_over:
        return said
    kinds = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{number} {kind}" for kind, number in kinds[:6]]
    rest = sum(number for _, number in kinds[6:])
    return f"{said}; passed over: {', '.join(parts)}{f' and {rest} others' if rest else ''}"


def nothing_found(given: Sequence[object], passed_over: Mapping[str, int]) -> FileNotFoundError:
    """What to raise where there is no picture in all that was given."""
    looked = f"looked at any depth for {', '.join(sorted(SUFFIXES))}"
    beside = told(0, passed_over).partition("; ")[2]
    return FileNotFoundError(f"{', '.join(map(str, given))} holds no images; {looked}{f'; {beside}' if beside else ''}")


def _is(ask: Callable[[], bool]) -> bool:
    """What an entry says of itself; a link that leads round in a circle is nothing."""
    try:
        return ask()
    except OSError:
        return False


def _kind(entry: "os.DirEntry[str]") -> str:
    """Why a file is passed over; nothing where it is a picture."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if not _is(entry.is_file):
        return "broken links" if entry.is_symlink() else "special files"
    if suffix in VIDEO_SUFFIXES:
        return f"{suffix} (name a video itself to read its frames)"
    if suffix == SUFFIX:
        return f"{suffix} (name shards themselves, as in FOLDER/*{SUFFIX}, to read what is in them)"
    if suffix in PLUGIN_OF and not is_readable(suffix):
        return f"{suffix} ({PLUGIN_OF[suffix].advice})"
    return "" if suffix in SUFFIXES else (suffix.rstrip(".") or "without suffix")
