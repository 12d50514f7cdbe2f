"""A memory-mapped store of teacher embeddings, so that a crop seen before is not embedded again."""

import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipself.data.images.inside import change_of
from clipself.files import allocate, locked
from clipself.structures import DistillBatch
from clipself.text.printable import name_bytes

FIRST_ROWS = 1024
KEY_BYTES = 24


class TeacherCache:
    """Embeddings by a key of teacher, file and region; a changed file or model has other keys, so nothing is stale.

    One growing file of rows, each with its own key, a checksum and a float16 embedding: a row is whole or does not
    count, whatever was killed, cut or copied. Runs may share a store: each appends under a lock, after the rows of the
    others. Under many processes each rank has a store of its own.

    Args:
        folder: Where the store lies.
        identity: Everything that the embeddings depend on but the region: teacher weights, crop size, enlargement.
        width: Length D of an embedding.
        rank: This process.
    """

    def __init__(self, folder: str | Path, *, identity: str, width: int, rank: int = 0) -> None:
        digest = hashlib.sha256(f"rows with keys {identity}".encode()).hexdigest()[:16]
        self.folder = Path(folder) / f"{digest}-{rank}"
        self.path = self.folder / "embeddings.f16"
        self.row = np.dtype([("key", f"S{KEY_BYTES}"), ("sum", "<u4"), ("values", "<f2", (width,))])
        self.hits, self.misses = 0, 0
        self.rows: dict[bytes, int] = {}
        self.seen = 0
        """Rows looked through; those of other runs may follow."""
        with locked(self.folder / ".lock"):
            self.store = self._open(FIRST_ROWS)
            self._read_on()

    def look_up(self, batch: DistillBatch, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """Embeddings (R, D) of a batch's crops; those that are not kept are embedded and added."""
        keys = self._keys(batch)
        missing = [place for place, key in enumerate(keys) if key not in self.rows]
        self.hits, self.misses = self.hits + len(keys) - len(missing), self.misses + len(missing)
        if missing:
            fresh = embed(batch.crops_R3hw[missing])
            self._add([keys[place] for place in missing], fresh.cpu().numpy().astype(np.float16))
        kept = self.store["values"][[self.rows[key] for key in keys]]
        return torch.from_numpy(kept.astype(np.float32)).to(batch.crops_R3hw.device)

    def flush(self) -> None:
        """Brings the rows to the disk."""
        self.store.flush()

    def _keys(self, batch: DistillBatch) -> list[bytes]:
        keys = []
        mirrored = batch.mirrored or (False,) * len(batch)
        for name, boxes, flipped in zip(batch.names, batch.boxes_norm, mirrored, strict=True):
            file = f"{os.path.abspath(name)} {change_of(name)}{' mirrored' * flipped}"
            keys += [
                hashlib.sha256(name_bytes(f"{file} {[round(value, 6) for value in box]}"))
                .hexdigest()[:KEY_BYTES]
                .encode()
                for box in boxes.tolist()
            ]
        return keys

    def _add(self, keys: list[bytes], values: NDArray[np.float16]) -> None:
        with locked(self.folder / ".lock"):
            self._read_on()
            # A crop may stand twice in one batch, or another run may have added it; only the first row is kept.
            fresh = {key: value for key, value in zip(keys, values, strict=True) if key not in self.rows}
            if self.seen + len(fresh) > len(self.store):
                self.store.flush()
                self.store = self._open(2 * (self.seen + len(fresh)))
            for key, value in fresh.items():
                row = self.store[self.seen]
                row["values"], row["sum"] = value, zlib.crc32(value.tobytes())
                row["key"] = key  # last: a row without its key is free
                self.rows[key] = self.seen
                self.seen += 1

    def _read_on(self) -> None:
        """Takes in the whole rows that this store has gained; must hold the lock."""
        held = self.path.stat().st_size // self.row.itemsize
        if held != len(self.store):
            self.store = self._open(held)
        while self.seen < len(self.store) and self.store["key"][self.seen]:
            row = self.store[self.seen]
            if zlib.crc32(row["values"].tobytes()) == row["sum"]:
                self.rows.setdefault(bytes(row["key"]), self.seen)
            self.seen += 1

    def _open(self, rows: int) -> "np.memmap[Any, np.dtype[Any]]":
        size = max(rows * self.row.itemsize, self.path.stat().st_size if self.path.exists() else 0)
        allocate(self.path, size)
        return np.memmap(self.path, dtype=self.row, mode="r+", shape=(size // self.row.itemsize,))
