"""Files that are either whole or not there: every write goes to a neighbour first and is then renamed."""

import codecs
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> Path:
    """Lets `write` fill a temporary file in the same folder, then renames it to `path`.

    Args:
        path: The file to make; its folder is made when missing.
        write: Receives the temporary path and writes all of the content there.

    Returns:
        The path written.

    Raises:
        OSError: The disk is full or the folder cannot be written; an older file at `path` is left as it was.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            folder = path.parent if path.parent.exists() else Path.cwd()
            free = shutil.disk_usage(folder).free / 2**20
            raise OSError(
                errno.ENOSPC,
                f"no space left to write {path} ({free:.0f} MiB free in {folder}); what was there before is untouched: "
                "free some space or choose another folder, then run the same command again",
            ) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Writes bytes atomically; see `write_atomically`."""
    return write_atomically(path, lambda part: _write_bytes(part, data))


def write_text(path: str | Path, text: str) -> Path:
    """Writes UTF-8 text atomically; see `write_atomically`."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> Path:
    """Writes a value as indented JSON atomically; see `write_atomically`."""
    return write_text(path, json.dumps(value, indent=2) + "\n")


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
        raise ValueError(f"{path} is not UTF-8 text (see byte {error.start}); save it as UTF-8") from error


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
