"""Tar shards behind addresses: each stands in a local folder, brought there once, or is read where it lies.

The stand-in of `https://host/a/000.tar` is `CACHE/remote/DIGEST/000.tar`, a path as that of any other shard. Beside it
lies a note of its address, so that what finds no room in the cache is still read, one picture at a time.
"""

import hashlib
import importlib
import io
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from tqdm import tqdm

from clipself.files import FULL, default_cache_dir, locked, write_atomically, write_json

T = TypeVar("T")
log = logging.getLogger(__name__)

ROOM: Final = "CLIPSELF_REMOTE_GB"
ROOM_GB: Final = 100.0
"""Of the local copies of all remote shards, where the variable says nothing else."""
AT_ONCE: Final = 8
"""Shards that are asked for or brought at the same time."""
BUFFER: Final = 2**23
"""Bytes of a shard that finds no room here, read together while its index is made."""
PAUSES: Final = (1.0, 5.0)
"""Seconds ahead of each further attempt."""
VERSIONS: Final = ("ETag", "etag", "md5", "Content-MD5", "LastModified", "Last-Modified", "mtime", "updated", "created")
"""What file systems call that which changes with a file's content; the first counts."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A shard that lies elsewhere.

    Attributes:
        address: As fsspec reads it.
        size: Its bytes.
        version: Changes with its content; may be empty.
    """

    address: str
    size: int
    version: str

    def read(self, offset: int, size: int) -> bytes:
        """Some of its bytes, without the others.

        Raises:
            ConnectionError: They cannot be had.
        """

        def read() -> bytes:
            system, path = _system_of(self.address)
            held = bytes(system.cat_file(path, start=offset, end=offset + size))
            if len(held) == self.size != size:
                raise OSError(f"its server gives whole files only; let {ROOM} have room for all shards")
            if len(held) != size:
                raise OSError(f"{len(held)} of {size} bytes came")
            return held

        try:
            return _asked(self.address, read)
        except FileNotFoundError as error:
            raise ConnectionError(f"{error}; it was there when the shards were listed") from error


def stand_ins(patterns: Iterable[str]) -> list[Path]:
    """The local paths of the shards at some addresses, those of a pattern sorted; brought here as far as there is room.

    Args:
        patterns: Addresses, also with `*`; of "://" a path may have left ":/".

    Raises:
        FileNotFoundError: There is none at an address.
        ConnectionError: An address cannot be read.
        ValueError: No address of this kind can be, or a file there does not tell its length.
        ImportError: fsspec, or what it needs for this protocol, is not installed.
    """
    addresses = [address for pattern in patterns for address in _matching(_complete(pattern))]
    with ThreadPoolExecutor(AT_ONCE) as several:
        remotes = list(several.map(_facts, addresses))
    places = [_place(remote.address) for remote in remotes]
    with locked(_root() / ".lock"):  # other processes of this machine wait, and find all here
        for place, remote in zip(places, remotes, strict=True):
            if remote_of(place) != remote:
                place.unlink(missing_ok=True)
                write_json(_note(place), asdict(remote))
            else:
                os.utime(_note(place))
        _bring(places, remotes)
    remote_of.cache_clear()
    return places


@lru_cache(maxsize=4096)
def remote_of(path: Path) -> Remote | None:
    """What a stand-in stands for; None for any other path."""
    try:
        return Remote(**json.loads(_note(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def opened(shard: Path) -> Iterator[BinaryIO]:
    """A shard's bytes, from here or from where it lies; errors as of `Remote.read`."""
    remote = None if shard.is_file() else remote_of(shard)
    with shard.open("rb") if remote is None else io.BufferedReader(_Stream(remote), BUFFER) as stream:
        yield stream


class _Stream(io.RawIOBase):
    """A remote shard as a file; `io.BufferedReader` asks for much at a time."""

    def __init__(self, remote: Remote) -> None:
        self.remote, self.place = remote, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.remote.size}[whence]
        return self.place

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self.remote.size - self.place))
        if wanted:
            buffer[:wanted] = self.remote.read(self.place, wanted)
        self.place += wanted
        return wanted


def _bring(places: Sequence[Path], remotes: Sequence[Remote]) -> None:
    """Copies what is missing and finds room."""
    missing = [(place, remote) for place, remote in zip(places, remotes, strict=True) if not place.is_file()]
    if not missing:
        return
    room = _make_room(sum(remote.size for _, remote in missing), keep=frozenset(places))
    fitting = list[tuple[Path, Remote]]()
    for place, remote in missing:
        if remote.size <= room:
            room -= remote.size
            fitting.append((place, remote))
    if fitting:
        total = sum(remote.size for _, remote in fitting) / 2**30
        log.info("bringing %d of %d remote shards to %s, %.2f GiB", len(fitting), len(places), _root(), total)
    with ThreadPoolExecutor(AT_ONCE) as several:
        list(
            tqdm(several.map(_copy, *zip(*fitting, strict=True)), desc="shards", total=len(fitting)) if fitting else ()
        )
    if len(fitting) < len(missing):
        log.warning(
            "%d of %d remote shards find no room in %s (%s, and free space): their pictures are read one at a time "
            "from where they lie", len(missing) - len(fitting), len(places), _root(), f"{ROOM}={_limit_gb():g}",
        )  # fmt: skip


def _copy(place: Path, remote: Remote) -> None:
    def write(part: Path) -> None:
        def fetch() -> None:
            system, path = _system_of(remote.address)
            system.get_file(path, str(part))
            if part.stat().st_size != remote.size:
                raise OSError(f"{part.stat().st_size} of {remote.size} bytes came")

        _asked(remote.address, fetch)

    write_atomically(place, write)


def _make_room(wanted: int, *, keep: frozenset[Path]) -> int:
    """Bytes that may be written, after the copies of other runs gave way, those asked for longest ago first."""
    copies = [path for path in _root().glob("*/*.tar") if path.is_file()]
    used = sum(path.stat().st_size for path in copies)
    limit = int(_limit_gb() * 2**30)
    free = int(shutil.disk_usage(_root()).free * 0.9)
    for path in sorted(set(copies) - keep, key=lambda path: _note(path).stat().st_mtime if _note(path).exists() else 0):
        if min(limit - used, free) >= wanted:
            break
        size = path.stat().st_size
        path.unlink(missing_ok=True)  # who still reads it goes on by its address
        used, free = used - size, free + size
    return max(0, min(limit - used, free))


def _limit_gb() -> float:
    said = os.environ.get(ROOM, "")
    try:
        limit = float(said or ROOM_GB)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise ValueError(f"{ROOM}={said} is no number of gigabytes; leave it out for {ROOM_GB:g}")
    return limit


def _root() -> Path:
    return default_cache_dir() / "remote"


def _place(address: str) -> Path:
    folder, _, name = address.rpartition("/")
    return _root().absolute() / hashlib.sha256(folder.encode()).hexdigest()[:16] / name


def _note(place: Path) -> Path:
    return place.with_name(f"{place.name}.json")


def _complete(address: str) -> str:
    protocol, _, rest = address.partition(":/")
    return f"{protocol}://{rest.lstrip('/')}"


def _matching(address: str) -> list[str]:
    system, path = _system_of(address)
    system.invalidate_cache()  # listings that s3fs keeps tell the size of what may have changed since
    if not any(mark in address for mark in "*["):
        return [system.unstrip_protocol(path)]
    found = sorted(_asked(address, lambda: system.glob(path)))
    if not found:
        raise FileNotFoundError(f"no shards at {address}; check the address, or name them, as in {{000..127}}.tar")
    return [system.unstrip_protocol(one) for one in found]


def _facts(address: str) -> Remote:
    system, path = _system_of(address)
    facts = _asked(address, lambda: system.info(path))
    if not isinstance(facts.get("size"), int):
        raise ValueError(f"{address} does not say how long it is, so that it cannot be read in parts; copy it here")
    version = next((str(facts[name]) for name in VERSIONS if facts.get(name)), "")
    return Remote(address, facts["size"], version)


def _system_of(address: str) -> tuple[Any, str]:
    """The file system of an address and the path in it; fsspec keeps systems itself, and apart for each process."""
    try:
        fsspec: Any = importlib.import_module("fsspec")
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise ImportError(
            f"{address} cannot be read ({error}); pip install 'clipself[remote]' brings fsspec and https, s3fs is for "
            "s3://, gcsfs for gs://"
        ) from error
    except ValueError as error:
        raise ValueError(f"{address} cannot be read ({error}); copy it here and pass its path") from error
    return system, path


def _asked(address: str, ask: Callable[[], T]) -> T:
    """What a file system answers; its many kinds of errors become two.

    Raises:
        FileNotFoundError: There is nothing at the address.
        ConnectionError: It cannot be read; training does not go on with other pictures in place of these.
    """
    for pause in (*PAUSES, None):
        try:
            return ask()
        except FileNotFoundError as error:
            why = f" ({error.__cause__})" if error.__cause__ is not None else ""
            raise FileNotFoundError(f"no shards at {address}{why}; check the address") from None
        except ImportError:
            raise
        except Exception as error:  # each protocol has errors of its own
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            if pause is None:
                said = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ConnectionError(
                    f"{address} cannot be read ({said}); check the address, the network and your credentials"
                ) from error
            time.sleep(pause)
    raise AssertionError
