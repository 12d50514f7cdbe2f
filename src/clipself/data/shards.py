"""Pictures with captions in tar shards, as WebDataset writes them: read where they lie, in streams.

What is held of a shard is how many pairs it has; where they lie in it is an index on disk, made once.
"""

import io
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipself.data.images import read_image
from clipself.data.images.made import Made, run_of
from clipself.data.images.shard_files import SUFFIX as SUFFIX
from clipself.data.images.shard_files import cached_index, expand, read_members, read_part, readable

PICTURES: Final = ("jpg", "jpeg", "png", "webp")
TEXTS: Final = ("txt", "json")
"""Of a pair with both, the text file counts."""
CAPTION: Final = "caption"
"""Key of the caption in a JSON."""
ROW: Final = np.dtype(
    [("picture", "<u8"), ("picture_size", "<u4"), ("text", "<u8"), ("text_size", "<u4"), ("is_json", "?")]
)
WINDOW: Final = 8192
"""Pairs among which the order is random; shards are in a random order too."""


def find_shards(path: Path) -> list[Path]:
    """A shard itself, or all of a folder at any depth, sorted.

    Raises:
        FileNotFoundError: There is none.
    """
    found = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else expand(path)
    if not found:
        raise FileNotFoundError(
            f"no {SUFFIX} shards at {path}; compressed ones cannot be read in place, unpack .gz first"
        )
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardNames(Made[str]):
    """Names of all pairs, made when they are asked for.

    Attributes:
        shards: Names of the shards.
        ends: Pairs up to the end of each.
    """

    what: ClassVar[str] = "pair"
    shards: tuple[str, ...]
    ends: tuple[int, ...]

    def __len__(self) -> int:
        return self.ends[-1]

    def make(self, index: int) -> str:
        """The name of a pair."""
        shard, place = run_of(self.ends, index)
        return f"{self.shards[shard]}/{place}"


class CaptionShards:
    """See `CaptionSource`.

    Args:
        shards: Uncompressed tar files; neighbours of one name and different suffixes are a pair.

    Raises:
        ValueError: A file is no tar, or there is no pair in all of them.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        open_index.cache_clear()  # a shard may have been written again since
        self.shards, counts = readable(shards, lambda shard: len(open_index(str(shard))))
        self._ends = tuple(accumulate(counts))
        if not self._ends[-1]:
            raise ValueError(
                f"{self.shards[0]} and {len(self.shards) - 1} other shards hold no pair of a picture "
                f"({', '.join(PICTURES)}) and a text ({', '.join(TEXTS)}) of one name"
            )

    @property
    def names(self) -> ShardNames:
        """The shard of each pair, and its place there."""
        return ShardNames(shards=tuple(shard.name for shard in self.shards), ends=self._ends)

    def read(self, index: int) -> tuple[Image.Image, Sequence[str]]:
        """The picture and its caption, straight from the shard.

        Raises:
            ValueError: A member is damaged.
        """
        shard, place = run_of(self._ends, index)
        path = self.shards[shard]
        row = open_index(str(path))[place]
        picture = read_part(path, int(row["picture"]), int(row["picture_size"]))
        text = read_part(path, int(row["text"]), int(row["text_size"]))
        where = self.names[index]
        try:
            with Image.open(io.BytesIO(picture)) as opened:
                image = read_image(opened)
            said = text.decode("utf-8-sig")
            caption = json.loads(said)[CAPTION] if row["is_json"] else said
        except Exception as error:
            raise ValueError(f"{path.parent / where} is damaged ({error}); write the shard again") from error
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"{path.parent / where} has no caption; leave the pair out of the shard")
        return image, [caption.strip()]

    def order(self, key: str) -> Iterator[int]:
        """Shard after shard in a random order, and random within windows, so that files are read nearly in a row."""
        rng = random.Random(key)
        shards = list(range(len(self.shards)))
        rng.shuffle(shards)
        window: list[int] = []
        for shard in shards:
            for index in range(self._ends[shard - 1] if shard else 0, self._ends[shard]):
                window.append(index)
                if len(window) == WINDOW:
                    place = rng.randrange(WINDOW)
                    window[place], window[-1] = window[-1], window[place]
                    yield window.pop()
        rng.shuffle(window)
        yield from window


@lru_cache(maxsize=64)
def open_index(shard: str) -> Any:
    """Where the pairs of a shard lie: an array of `ROW` on disk, made where it is missing or the shard has changed.

    Raises:
        ValueError: The file is no tar.
    """
    return cached_index(Path(shard), str(ROW), index_of)


def index_of(shard: Path) -> NDArray[Any]:
    """Reads the headers of a shard.

    Raises:
        ValueError: The file is no tar.
    """
    rows: list[tuple[int, int, int, int, bool]] = []
    key, parts = "", dict[str, tuple[int, int]]()
    for member in read_members(shard):
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        if f"{folder}/{stem}" != key:
            rows += _pair(parts)
            key, parts = f"{folder}/{stem}", {}
        parts[suffix.lower()] = (member.offset, member.size)
    rows += _pair(parts)
    return np.array(rows, dtype=ROW)


def _pair(parts: dict[str, tuple[int, int]]) -> list[tuple[int, int, int, int, bool]]:
    picture = next((parts[suffix] for suffix in PICTURES if suffix in parts), None)
    text = next(((suffix, parts[suffix]) for suffix in TEXTS if suffix in parts), None)
    if picture is None or text is None:
        return []
    return [(*picture, *text[1], text[0] == "json")]
