"""Files that are either whole or not there: every write goes to a neighbour first and is then renamed."""

import codecs
import errno
import gc
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from clipself.keys import KeyTwice, parse_json

FULL: Final = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""No space, a limit of the file's size, a quota."""

SIGNS_OF_A_FULL_DISK: Final = (
    "No space left", "File too large", "os error 28", "os error 27", "unexpected pos", "PytorchStreamWriter failed",
    "iostream error",
)  # fmt: skip
"""What torch.save and safetensors say when a write falls short."""

AT_ONCE: Final = 256
"""Files that wait for the disk together; their temporary ones are what a kill leaves."""

SYNCING: Final = 32
"""Threads that wait for it."""

_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|data:")
"""What begins an address; one letter and a colon is a drive of Windows."""


def is_address(name: str | os.PathLike[str]) -> bool:
    """Whether a name means something on a network, in a bucket or in a text, also where a path has been made of it."""
    said = os.fspath(name)
    return isinstance(said, str) and _ADDRESS.match(said) is not None and not Path(said).exists()


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Lets `write` fill a temporary file in the same folder, then renames it to `path`.

    Args:
        path: The file to make; its folder is made when missing.
        write: Receives the temporary path and writes all of the content there.

    Returns:
        The path written.

    Raises:
        OSError: The disk is full or the folder cannot be written; an older file at `path` is left as it was.
    """
    with Together() as files:
        return files.write(path, write)


class Together:
    """Files of which each is whole or not there, as by `write_atomically`; the disk is waited for once for many.

    A file has its name as soon as `AT_ONCE` others are written too, or at `flush`, or at the end, whatever brought it::

        with Together() as files:
            for ...:
                files.write_text(path, text)
    """

    def __init__(self) -> None:
        self._held: list[tuple[Path, Path]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.flush()

    def write(self, path: str | Path, write: Callable[[Path], object]) -> Path:
        """Lets `write` fill a temporary file that will be `path`; arguments and errors as of `write_atomically`."""
        path = Path(path)
        temporary: Path | None = None
        try:
            with _room_for(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
                os.close(handle)
                temporary = Path(name)
                _fill(temporary, write)
        except BaseException:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise
        self._held.append((temporary, path))
        if len(self._held) >= AT_ONCE:
            self.flush()
        return path

    def write_bytes(self, path: str | Path, data: bytes) -> Path:
        """Bytes; see `write`."""
        return self.write(path, lambda part: _write_bytes(part, data))

    def write_text(self, path: str | Path, text: str) -> Path:
        """UTF-8 text; see `write`."""
        return self.write_bytes(path, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Brings to disk what is written so far, and gives it its names.

        Raises:
            OSError: The disk is full; files that have no new name yet are left as they were.
        """
        held, self._held = self._held, []
        if not held:
            return
        try:
            with _room_for(held[0][1]):
                _sync([part for part, _ in held])
                mode = 0o666 & ~_umask()
                for part, path in held:
                    os.chmod(part, mode)
                    os.replace(part, path)
        finally:
            for part, _ in held:
                part.unlink(missing_ok=True)


def _sync(files: Sequence[Path]) -> None:
    """Waits until files are on the disk, for many at a time: a journal's commit then serves all that wait for it."""
    if len(files) == 1:
        _sync_one(files[0])
        return
    with ThreadPoolExecutor(min(SYNCING, len(files))) as threads:
        list(threads.map(_sync_one, files))


def _sync_one(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """Says in a sentence of our own that a disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        folder = path.parent if path.parent.exists() else Path.cwd()
        free = shutil.disk_usage(folder).free / 2**20
        raise OSError(
            error.errno,
            f"no space left to write {path} ({free:.0f} MiB free in {folder}); what was there before is untouched: "
            "free some space or choose another folder, then run the same command again",
        ) from error


def _fill(part: Path, write: Callable[[Path], object]) -> None:
    """Calls `write`; what PyTorch and safetensors say in words of their own about a full disk becomes an OSError."""
    try:
        write(part)
    except OSError:
        raise
    except Exception as error:
        said = str(error)
        if not any(sign in said for sign in SIGNS_OF_A_FULL_DISK):
            raise
        code = errno.EFBIG if "os error 27" in said or "File too large" in said else errno.ENOSPC
        raise OSError(code, said) from error


def clear_parts(folder: Path) -> None:
    """Removes what writers left half written when they were killed; nobody may write there meanwhile."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


def allocate(path: Path, size: int) -> None:
    """Makes a file at least so many bytes long, the new ones zero and truly there: a memory map of it cannot fail.

    Raises:
        OSError: The disk has no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        held = stream.tell()
        if held >= size:
            return
        try:
            os.posix_fallocate(stream.fileno(), held, size - held)
        except AttributeError:  # macOS, Windows
            stream.truncate(size)
        except OSError as error:
            if error.errno not in FULL:
                stream.truncate(size)
                return
            raise OSError(error.errno, f"no space left for the {size / 2**20:.0f} MiB of {path}") from error


@contextmanager
def locked(path: Path, *, busy: str | None = None) -> Iterator[None]:
    """Holds a lock file; it stays behind, empty, and counts only while a process holds it.

    Args:
        path: The file; its folder is made when missing.
        busy: What to say where another process holds it; None waits for that process.

    Raises:
        FileExistsError: Another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        try:
            # A lock of the process, which workers that it forks neither inherit nor keep.
            fcntl.lockf(stream, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy is not None else 0))
        except OSError as error:
            if busy is not None and error.errno in (errno.EACCES, errno.EAGAIN):
                raise FileExistsError(f"{busy}; wait for it, or choose another folder") from error
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            # a file system without locks
        yield


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Writes bytes atomically; see `write_atomically`."""
    return write_atomically(path, lambda part: _write_bytes(part, data))


def write_text(path: str | Path, text: str) -> Path:
    """Writes UTF-8 text atomically; see `write_atomically`."""
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any) -> Path:
    """Writes a value as indented JSON atomically; see `write_atomically`."""
    return write_text(path, json.dumps(value, indent=2) + "\n")


def without_nan(value: Any) -> Any:
    """Tables and lists with None for NaN, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: without_nan(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(held) for held in value]
    return None if isinstance(value, float) and value != value else value


NO_FILES: Final = {
    b"version https://git-lfs": "is a pointer of Git LFS, not the file; fetch it with `git lfs pull`",
    b"<!doctype": "is a web page, not the file; the download wants a click: open the link in a browser",
    b"\x1f\x8b": "is compressed by gzip; unpack it",
    b"<html": "is a web page, not the file; the download wants a click: open the link in a browser",
}
"""How a download begins that is not the file."""


def no_file(path: str | Path) -> str:
    """Why a file is none at all, such as a web page in its place; empty where it may be what its name says."""
    with Path(path).open("rb") as stream:
        said = what_instead(stream.read(64))
    return f"{path} {said}" if said else ""


def what_instead(begun: bytes) -> str:
    """What a file is by its first bytes that nobody meant to hand over ("is empty", "is a web page, ..."), else ""."""
    begun = begun.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    return next((said for sign, said in NO_FILES.items() if begun.startswith(sign)), "") if begun else "is empty"


def read_text(path: str | Path) -> str:
    """Reads text as editors write it: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The text is in another encoding.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; check the path")
    held = path.read_bytes()
    encoding = "utf-16" if held.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return held.decode(encoding)
    except UnicodeDecodeError as error:
        fault = no_file(path) or f"{path} is not UTF-8 text (see byte {error.start}); save it as UTF-8"
        raise ValueError(fault) from error


def read_json(
    path: str | Path, *, hook: Callable[[dict[str, Any]], Any] | None = None, what: str = "annotation file"
) -> Any:
    """Reads a JSON file, in the encodings of `read_text`.

    Args:
        path: The file.
        hook: Sees each object as soon as it is parsed and gives what stands in its place.
        what: What the file is, for the message where there is none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not JSON, in another encoding, or says two things under one key.
    """
    if not Path(path).is_file():
        advice = "it is a folder, pass a file" if Path(path).is_dir() else "check the path"
        raise FileNotFoundError(f"no {what} at {path}; {advice}")
    text = read_text(path)
    try:
        with without_collection():
            return parse_json(text, hook)
    except KeyTwice as error:
        raise ValueError(f"{path}: in one of its objects {error}, or only the last would count") from None
    except (ValueError, RecursionError) as error:
        fault = no_file(path) or f"{path} is not valid JSON ({error}); was it cut short while copying, or edited?"
        raise ValueError(fault) from error


@contextmanager
def without_collection() -> Iterator[None]:
    """No search for cycles among millions of fresh rows that have none: it costs as much as making them."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def default_cache_dir() -> Path:
    """`$CLIPSELF_CACHE`, else `~/.cache/clipself`."""
    return Path(os.environ.get("CLIPSELF_CACHE") or Path.home() / ".cache" / "clipself")
