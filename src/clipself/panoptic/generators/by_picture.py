"""Which of the things that a file names belongs to which picture: by name, folder and suffix, never by guess."""

import os
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from clipself.data.images import SUFFIXES

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PictureName:
    """A picture's name, taken apart.

    Attributes:
        parts: Folders and stem; a number without leading zeros, so that COCO's ids and its file names meet.
        suffix: Lower-case, as ".jpg"; "" where the name has none.
    """

    parts: tuple[str, ...]
    suffix: str

    @classmethod
    def of(cls, name: str) -> "PictureName":
        """Reads a path or an id; both kinds of slashes part folders, both forms of Unicode are one name."""
        path = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/")))
        suffix = path.suffix.lower() if path.suffix.lower() in SUFFIXES else ""
        stem = path.name[: len(path.name) - len(suffix)]
        folders = tuple(part for part in path.parts[:-1] if part not in ("/", ".", ".."))
        return cls((*folders, str(int(stem)) if stem.isdecimal() else stem), suffix)

    def shared(self, other: "PictureName") -> int:
        """How many parts agree, counted from the end; 0 where one name does not end as the other."""
        shortest = min(len(self.parts), len(other.parts))
        return shortest if self.parts[-shortest:] == other.parts[-shortest:] else 0


class ByPicture(Generic[T]):
    """Values under the names of pictures, found by the path of a picture.

    A name fits a picture where one of both ends as the other, folder by folder: "a/1.png" fits "photos/a/1.jpg" and
    not "photos/b/1.png". Of several the one with most folders is taken, then the one of the same suffix.

    Args:
        source: Where the names are from, for messages.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._by_stem: dict[str, dict[PictureName, T]] = defaultdict(dict)
        self._taken: dict[PictureName, str] = {}

    def slot(self, name: str, default: T) -> T:
        """What is kept under a name; the default, from now on, where there is nothing yet."""
        key = PictureName.of(name)
        return self._by_stem[key.parts[-1]].setdefault(key, default)

    def find(self, file: str) -> T | None:
        """What belongs to a picture; None where no name fits.

        Raises:
            ValueError: Several names fit equally well, or one fits two pictures.
        """
        wanted = PictureName.of(file)
        there = self._by_stem.get(wanted.parts[-1], {})
        rank_of = {name: (name.shared(wanted), name.suffix == wanted.suffix) for name in there}
        best = max(rank_of.values(), default=(0, False))
        if not best[0]:
            return None
        names = [name for name, rank in rank_of.items() if rank == best]
        if len(names) > 1:
            raise ValueError(
                f"{self.source} has more than one entry that fits {file}, such as {_spell(names[0])} and "
                f"{_spell(names[1])}; name pictures there by folder and suffix"
            )
        self._take(names[0], file)
        return there[names[0]]

    def _take(self, name: PictureName, file: str) -> None:
        asked = os.path.abspath(file)
        if self._taken.setdefault(name, asked) != asked:
            raise ValueError(
                f"{self.source}: the entry {_spell(name)} fits more than one picture, {self._taken[name]} and {asked}; "
                "name pictures there by folder and suffix"
            )


def _spell(name: PictureName) -> str:
    return repr(str(Path(*name.parts)) + name.suffix)
