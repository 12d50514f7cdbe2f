"""Tar shards as files: which there are, what they hold, and arrays about them that are made once.

What reads pictures or captions from shards stands on this; shards behind addresses have paths here too, see `remote`.
"""

import hashlib
import io
import logging
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from clipself.data.images.remote import opened, remote_of, stand_ins
from clipself.files import default_cache_dir, is_address, write_atomically
from clipself.text.printable import name_bytes

log = logging.getLogger(__name__)

SUFFIX: Final = ".tar"
_BRACE: Final = re.compile(r"\{([^{}]*)\}")
_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)")


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
    count, fault = 0, ""
    try:
        with opened(shard) as stream, tarfile.open(fileobj=stream, mode="r:") as held:
            end = _end_of(stream)
            for member in held:
                held.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
                if member.isfile() and member.offset_data + member.size <= end:
                    count += 1
                    yield Member(member.name, member.offset_data, member.size)
            stream.seek(held.offset)  # where tarfile has found no further header, be it for an end or for damage
            rest = stream.read(tarfile.BLOCKSIZE)
            fault = "what follows is no header" if rest.strip(b"\0") or len(rest) % tarfile.BLOCKSIZE else ""
    except tarfile.TarError as error:
        if not count:
            raise ValueError(
                f"{shard} cannot be read as an uncompressed tar ({error}); unpack it or copy it again"
            ) from error
        fault = str(error)
    if fault:
        log.warning("%s is damaged behind %d files (%s); they are used, copy it again", shard, count, fault)


def _end_of(stream: BinaryIO) -> int:
    place = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    stream.seek(place)
    return end


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


def cached_index(shard: Path, kind: str, make: Callable[[Path], NDArray[Any]]) -> Any:
    """An array on disk that belongs to a shard: made where it is missing or the shard has changed, else mapped.

    Args:
        shard: The tar file; its path tells it, and what `version_of` says.
        kind: What the array holds.
        make: Makes it of the shard.
    """
    said = f"{shard.absolute()} {version_of(shard)} {kind}"
    path = default_cache_dir() / "shards" / f"{hashlib.sha256(name_bytes(said)).hexdigest()[:32]}.npy"
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
