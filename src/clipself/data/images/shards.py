"""Pictures within tar shards, as WebDataset writes them: read where they lie, in any order.

A member is a path below its shard, `shards/000.tar/a/1.jpg`, which `read_image` takes as any other. Where members lie
is an index on disk, made once for a shard and mapped into memory: no list of names is held.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clipself.data.images.formats import SUFFIXES
from clipself.data.images.made import MadePictures, run_of
from clipself.data.images.remote import remote_of
from clipself.data.images.shard_files import cached_index, read_members, read_part, readable
from clipself.text.printable import name_bytes

_INSIDE: Final = re.compile(r"(.*?\.tar)/(.+)", re.DOTALL)
LONGEST: Final = 1000
"""Bytes of a member's name; those of longer ones are passed over."""


@lru_cache(maxsize=64)
def picture_index(shard: str) -> Any:
    """Where the pictures of a shard lie, sorted by name as a folder is: an array of name, offset and size.

    Raises:
        ValueError: The file is no tar.
    """
    return cached_index(Path(shard), "pictures by name", _pictures_of)


def _pictures_of(shard: Path) -> NDArray[Any]:
    found: dict[bytes, tuple[int, int]] = {}  # of two of one name the last counts, as in unpacking
    for member in read_members(shard):
        path = PurePosixPath(member.name)
        key = _key(member.name)
        hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
        if path.suffix.lower() in SUFFIXES and not hidden and len(key) <= LONGEST:
            found[key] = (member.offset, member.size)
    width = max(map(len, found), default=1)
    rows = [(name, *place) for name, place in sorted(found.items())]
    return np.array(rows, dtype=[("name", f"S{width}"), ("offset", "<u8"), ("size", "<u8")])


def _key(name: str) -> bytes:
    """A name whose bytes sort as paths do, part by part; absolute ones lie in the shard too, as in unpacking."""
    return name_bytes("/".join(PurePosixPath(name.lstrip("/")).parts)).replace(b"/", b"\x01")


class ShardPictures(MadePictures):
    """Paths of all pictures of some shards, made when they are asked for.

    A shard that cannot be read is left out, with a warning.

    Args:
        shards: Uncompressed tar files.

    Raises:
        ValueError: No shard can be read.
        FileNotFoundError: There is no picture in them.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        picture_index.cache_clear()  # a shard may have been written again since
        self.shards, counts = readable(shards, lambda shard: len(picture_index(str(shard))))
        self._ends: NDArray[np.int64] = np.fromiter(accumulate(counts), np.int64, len(counts))
        if not len(self):
            raise FileNotFoundError(f"{shards[0]} and {len(shards) - 1} other shards hold no images")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def name(self, index: int) -> str:
        """The shard of a picture, and its name there."""
        shard, own = self._place(index)
        return f"{shard.name}/{own}"

    def make(self, index: int) -> Path:
        """The path of a picture."""
        shard, own = self._place(index)
        return shard / own

    def _place(self, index: int) -> tuple[Path, str]:
        shard, place = run_of(self._ends, index)
        row = picture_index(str(self.shards[shard]))[place]
        return self.shards[shard], bytes(row["name"]).replace(b"\x01", b"/").decode("utf-8", "surrogateescape")

    def digest(self) -> str:
        """Of all names in their order."""
        said = hashlib.sha256()
        for shard in self.shards:
            said.update(name_bytes(f"{shard.name}\n"))
            said.update(np.ascontiguousarray(picture_index(str(shard))["name"]).tobytes())
        return said.hexdigest()[:16]


def shard_of(path: str | Path) -> Path | None:
    """The shard that a path leads into; None for a path of its own."""
    inside = _INSIDE.match(str(path))
    if inside is None:
        return None
    shard = Path(inside[1])
    return shard if shard.is_file() or remote_of(shard) is not None else None


def has_member(path: str | Path) -> bool:
    """Whether a path leads to a picture in a shard."""
    shard = shard_of(path)
    return shard is not None and _row_of(shard, str(path)) is not None


def open_member(path: Path) -> io.BytesIO | None:
    """The bytes of a member; None for a path that leads into no shard.

    Raises:
        FileNotFoundError: The shard has no such picture.
        ValueError: It is no tar.
    """
    shard = shard_of(path)
    if shard is None:
        return None
    row = _row_of(shard, str(path))
    if row is None:
        raise FileNotFoundError(f"no image at {path}; {shard} holds none of that name")
    return io.BytesIO(read_part(shard, int(row["offset"]), int(row["size"])))


def _row_of(shard: Path, path: str) -> Any:
    """The row of a picture in the index of its shard; None where there is none."""
    rows, key = picture_index(str(shard)), _key(path[len(str(shard)) + 1 :])
    place = int(np.searchsorted(rows["name"], key))
    return rows[place] if place < len(rows) and bytes(rows[place]["name"]) == key else None
