"""Pictures within tar shards, as WebDataset writes them: read where they lie, in any order.

A member is a path below its shard, `shards/000.tar/a/1.jpg`, which `read_image` takes as any other. Where members lie
is an index on disk, made once for a shard and mapped into memory: no list of names is held. Shards behind addresses
have paths here too; see `remote`.
"""

import hashlib
import io
import logging
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from glob import glob
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from clipself.data.images.formats import SUFFIXES
from clipself.data.images.made import Made, run_of
from clipself.data.images.remote import opened, remote_of, stand_ins
from clipself.files import default_cache_dir, is_address, write_atomically

log = logging.getLogger(__name__)

SUFFIX: Final = ".tar"
_INSIDE: Final = re.compile(r"(.*?\.tar)/(.+)", re.DOTALL)
_BRACE: Final = re.compile(r"\{([^{}]*)\}")
_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)")
LONGEST: Final = 1000
"""Bytes of a member's name; those of longer ones are passed over."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a shard.

    Attributes:
        name: Its path there.
        offset: Where its bytes begin.
        size: How many there are.
    """

    name: str
    offset: int
    size: int


def are_shards(path: str | Path) -> bool:
    """Whether a path means tar shards: one of them, or a pattern of their names."""
    text = str(path)
    return text.endswith((SUFFIX, f"{SUFFIX}}}")) and not Path(path).is_dir()


def expand(pattern: str | Path) -> list[Path]:
    """The shards of a pattern, such as `shards/*.tar` or `shards/{000..127}.tar`, sorted; each must be there.

    Args:
        pattern: Local, or an address: of `https://host/{000..127}.tar` the paths of `stand_ins` are given.

    Raises:
        FileNotFoundError: There is none, or one that braces name is missing.
        ConnectionError: An address cannot be read.
        ImportError: What reads such addresses is not installed.
    """
    if is_address(pattern):
        return stand_ins(_without_braces(str(pattern)))
    found: list[Path] = []
    for one in _without_braces(str(pattern)):
        is_pattern = any(mark in one for mark in "*?[") and not Path(one).exists()
        found += sorted(map(Path, glob(one))) if is_pattern else [Path(one)]
    missing = [path for path in found if not path.is_file()]
    if missing or not found:
        raise FileNotFoundError(
            f"no {SUFFIX} shards at {missing[0] if missing else pattern}; compressed ones cannot be read in place, "
            "unpack .gz first"
        )
    return found


def _without_braces(pattern: str) -> list[str]:
    brace = _BRACE.search(pattern)
    if brace is None:
        return [pattern]
    if numbers := _RANGE.fullmatch(brace[1]):
        width = len(numbers[1])
        parts = [f"{number:0{width}d}" for number in range(int(numbers[1]), int(numbers[2]) + 1)]
    else:
        parts = brace[1].split(",")
    before, after = pattern[: brace.start()], pattern[brace.end() :]
    return [whole for part in parts for whole in _without_braces(f"{before}{part}{after}")]


def read_members(shard: Path) -> Iterator[Member]:
    """The files of a shard in their order; a shard that is cut short gives those ahead of the damage, with a warning.

    Raises:
        ValueError: It is no uncompressed tar.
    """
    count = 0
    try:
        with opened(shard) as stream, tarfile.open(fileobj=stream, mode="r:") as held:
            end = _end_of(stream)
            for member in held:
                held.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
                if member.isfile() and member.offset_data + member.size <= end:
                    count += 1
                    yield Member(member.name, member.offset_data, member.size)
    except tarfile.TarError as error:
        if not count:
            raise ValueError(
                f"{shard} cannot be read as an uncompressed tar ({error}); unpack it or copy it again"
            ) from error
        log.warning("%s is damaged behind %d files (%s); they are used, copy it again", shard, count, error)


def _end_of(stream: BinaryIO) -> int:
    place = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    stream.seek(place)
    return end


def cached_index(shard: Path, kind: str, make: Callable[[Path], NDArray[Any]]) -> Any:
    """An array on disk that belongs to a shard: made where it is missing or the shard has changed, else mapped.

    Args:
        shard: The tar file; its path tells it, and what `version_of` says.
        kind: What the array holds.
        make: Makes it of the shard.
    """
    said = f"{shard.absolute()} {version_of(shard)} {kind}"
    path = default_cache_dir() / "shards" / f"{hashlib.sha256(said.encode()).hexdigest()[:32]}.npy"
    if not path.is_file():
        rows = make(shard)

        def write(part: Path) -> None:
            with part.open("wb") as stream:
                np.save(stream, rows)

        write_atomically(path, write)
    try:
        return np.load(path, mmap_mode="r")
    except ValueError:  # older NumPy maps no array without rows
        return np.load(path)


def version_of(file: Path) -> str:
    """What tells a file, or a shard behind an address, from what it was before a change."""
    if (remote := remote_of(file)) is not None:
        return f"{remote.size} {remote.version}"
    facts = file.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


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
    """A name whose bytes sort as paths do, part by part."""
    return "/".join(PurePosixPath(name).parts).encode("utf-8", "surrogateescape").replace(b"/", b"\x01")


def readable(shards: Sequence[Path], count: Callable[[Path], int]) -> tuple[tuple[Path, ...], list[int]]:
    """The shards that can be read, and what is counted in each; the others are left out, with a warning.

    Raises:
        ValueError: None can be read.
    """
    counts: dict[Path, int] = {}
    faults: list[ValueError] = []
    for shard in shards:
        try:
            counts[shard] = count(shard)
        except ValueError as error:
            faults.append(error)
            log.warning("%s; it is left out", error)
    if faults:
        if not counts:
            raise faults[0]
        log.warning("%d of %d shards are left out", len(faults), len(shards))
    return tuple(counts), list(counts.values())


class ShardPictures(Made[Path]):
    """Paths of all pictures of some shards, made when they are asked for.

    A shard that cannot be read is left out, with a warning.

    Args:
        shards: Uncompressed tar files.

    Raises:
        ValueError: No shard can be read.
        FileNotFoundError: There is no picture in them.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards, counts = readable(shards, lambda shard: len(picture_index(str(shard))))
        self._ends: NDArray[np.int64] = np.fromiter(accumulate(counts), np.int64, len(counts))
        if not len(self):
            raise FileNotFoundError(f"{shards[0]} and {len(shards) - 1} other shards hold no images")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def make(self, index: int) -> Path:
        """The path of a picture."""
        index += len(self) if index < 0 else 0
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        shard, place = run_of(self._ends, index)
        row = picture_index(str(self.shards[shard]))[place]
        return self.shards[shard] / bytes(row["name"]).replace(b"\x01", b"/").decode("utf-8", "surrogateescape")

    def digest(self) -> str:
        """Of all names in their order."""
        said = hashlib.sha256()
        for shard in self.shards:
            said.update(f"{shard.name}\n".encode())
            said.update(np.ascontiguousarray(picture_index(str(shard))["name"]).tobytes())
        return said.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ShardNames(Made[str]):
    """The same pictures by the names of their shards and their own.

    Attributes:
        pictures: The paths.
    """

    pictures: ShardPictures

    def __len__(self) -> int:
        return len(self.pictures)

    def make(self, index: int) -> str:
        """The name of a picture."""
        path = self.pictures[index]
        shard = shard_of(path)
        assert shard is not None
        return path.relative_to(shard.parent).as_posix()

    def digest(self) -> str:
        """Of all names in their order, without making them."""
        return self.pictures.digest()


def shard_of(path: str | Path) -> Path | None:
    """The shard that a path leads into; None for a path of its own."""
    inside = _INSIDE.match(str(path))
    if inside is None:
        return None
    shard = Path(inside[1])
    return shard if shard.is_file() or remote_of(shard) is not None else None


def read_part(shard: Path, offset: int, size: int) -> bytes:
    """Some bytes of a shard, here or where it lies.

    Raises:
        ConnectionError: It is remote and cannot be read.
    """
    try:
        with shard.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)
    except FileNotFoundError:
        if (remote := remote_of(shard)) is None:
            raise
        return remote.read(offset, size)


def open_member(path: Path) -> io.BytesIO | None:
    """The bytes of a member; None for a path that leads into no shard.

    Raises:
        FileNotFoundError: The shard has no such picture.
        ValueError: It is no tar.
    """
    shard = shard_of(path)
    if shard is None:
        return None
    rows, key = picture_index(str(shard)), _key(str(path)[len(str(shard)) + 1 :])
    place = int(np.searchsorted(rows["name"], key))
    if place == len(rows) or bytes(rows[place]["name"]) != key:
        raise FileNotFoundError(f"no image at {path}; {shard} holds none of that name")
    return io.BytesIO(read_part(shard, int(rows[place]["offset"]), int(rows[place]["size"])))
