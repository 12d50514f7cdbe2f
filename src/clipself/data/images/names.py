"""What the files that are made of pictures are called: never two alike, never outside their folder, never too long."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from clipself.text.printable import name_bytes

LONGEST_PART: Final = 180
"""Bytes of a folder's or file's name, which leaves room for suffixes and for temporary names below the usual 255."""


def relative_files(paths: Iterable[Path], roots: Sequence[Path]) -> list[str]:
    """Files by their paths below the folder that holds all of them, "/" between folders.

    Args:
        paths: Different files.
        roots: Folders that were asked for; their nearest common folder is left out.
    """
    base = _common([Path(os.path.abspath(root)) for root in roots])
    return [Path(os.path.relpath(os.path.abspath(path), base)).as_posix() for path in paths]


def distinct_names(files: Iterable[str]) -> list[str]:
    """Relative names, all different even where capitals do not count, for what is made of files.

    `a/1.png` and `b/1.png` become `a/1` and `b/1`; `a/2.jpg` and `a/2.png` keep their suffixes, since they would meet
    without them.

    Args:
        files: Paths as a user or a file gives them; leading "/" and ".." lose their meaning.
    """
    whole = [safe_name(file) for file in files]
    bare = [str(PurePosixPath(name).with_suffix("")) for name in whole]
    often = Counter(name.casefold() for name in bare)
    folders = {str(folder).casefold() for name in whole for folder in PurePosixPath(name).parents}
    taken: set[str] = set()
    names = []
    for short, long in zip(bare, whole, strict=True):
        name = short if often[short.casefold()] == 1 else long
        number = 1
        while name.casefold() in taken or f"{name}.png".casefold() in folders:
            number += 1
            name = f"{long}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


class OwnStems:
    """Relative names of files, one after the other, that differ from all before even without suffix and capitals.

    For formats that name a picture's labels after it: of `a.jpg` and `a.png` the second becomes `a_png.png`.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()  # digests, since there may be millions

    def __call__(self, file: str) -> str:
        """The name of the next file; see `safe_name`."""
        name = PurePosixPath(safe_name(file))
        stem, suffix = str(name.with_suffix("")), name.suffix
        while hash(stem.casefold()) in self._taken:
            stem = f"{stem}_{suffix.removeprefix('.')}"
        self._taken.add(hash(stem.casefold()))
        return f"{stem}{suffix}"


def safe_name(file: str) -> str:
    """One path as a relative one that stays inside its folder: parts shortened, control characters replaced."""
    parts = [part for part in PurePosixPath(file).parts if part not in ("/", "//", ".")]
    return "/".join(_shorten("__" if part == ".." else part) for part in parts) or "picture"


def _shorten(part: str) -> str:
    """A name of at most `LONGEST_PART` bytes; a digest of the whole stands for what is cut off, the suffix stays."""
    clean = re.sub(r"[\x00-\x1f\x7f]", "_", part)
    data = name_bytes(clean)
    if len(data) <= LONGEST_PART:
        return clean
    suffix = PurePosixPath(clean).suffix if len(PurePosixPath(clean).suffix.encode("utf-8", "replace")) <= 10 else ""
    digest = hashlib.sha256(data).hexdigest()[:12]
    kept = data[: LONGEST_PART - len(digest) - len(suffix) - 1].decode("utf-8", "ignore")
    return f"{kept}-{digest}{suffix}"


def _common(folders: Sequence[Path]) -> str:
    try:
        return os.path.commonpath(folders)
    except ValueError:  # two drives
        return os.path.abspath(os.sep)
