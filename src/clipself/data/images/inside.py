"""Pictures that lie within a larger file, by paths of their own: one door to tar shards and to Arrow tables."""

import io
import os
from pathlib import Path

from clipself.data.images.shard_files import version_of
from clipself.data.images.shards import has_member, open_member, shard_of
from clipself.data.images.stored import as_stored
from clipself.data.images.tables import STATE, open_row, table_of


def open_inside(path: Path) -> io.BytesIO | None:
    """The bytes of a picture within a larger file; None for a path of its own; errors as of both kinds."""
    member = open_member(path)
    return open_row(path) if member is None else member


def holder_of(path: str | Path) -> Path | None:
    """The file that tells whether a picture within a larger one has changed; None for a path of its own."""
    shard = shard_of(path)
    if shard is not None:
        return shard
    table = table_of(path)
    return None if table is None else table / STATE


def change_of(path: str | Path) -> str:
    """What tells a picture, be it within a larger file, from what it was before a change."""
    return version_of(holder_of(path) or as_stored(Path(path)))


def is_there(path: str | Path) -> bool:
    """Whether a path leads to a picture, be it within a larger file."""
    if os.path.isfile(as_stored(Path(path))):  # is_file() raises on names that are too long
        return True
    return has_member(path) or table_of(path) is not None
