"""A memory-mapped store of teacher embeddings, so that a crop seen before is not embedded again."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipself.files import write_atomically
from clipself.structures import DistillBatch

FIRST_ROWS = 1024


class TeacherCache:
    """Embeddings by a key of teacher, file and region; a changed file or model has other keys, so nothing is stale.

    Rows are float16 in one growing file; the keys lie beside it. One process writes one store: under many processes
    each rank has its own.

    Args:
        folder: Where the store lies.
        identity: Everything that the embeddings depend on but the region: teacher weights, crop size, enlargement.
        width: Length D of an embedding.
        rank: This process.
    """

    def __init__(self, folder: str | Path, *, identity: str, width: int, rank: int = 0) -> None:
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.folder = Path(folder) / f"{digest}-{rank}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.width, self.hits, self.misses = width, 0, 0
        self.rows: dict[str, int] = self._read_keys()
        self.store = self._open(max(FIRST_ROWS, len(self.rows)))

    def look_up(self, batch: DistillBatch, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """Embeddings (R, D) of a batch's crops; those that are not kept are embedded and added."""
        keys = self._keys(batch)
        missing = [place for place, key in enumerate(keys) if key not in self.rows]
        self.hits, self.misses = self.hits + len(keys) - len(missing), self.misses + len(missing)
        if missing:
            fresh = embed(batch.crops_R3hw[missing])
            self._add([keys[place] for place in missing], fresh.cpu().numpy().astype(np.float16))
        kept = self.store[[self.rows[key] for key in keys]]
        return torch.from_numpy(kept.astype(np.float32)).to(batch.crops_R3hw.device)

    def flush(self) -> None:
        """Brings rows, then keys, to the disk: a key is never there without its row."""
        self.store.flush()
        write_atomically(self.folder / "keys.json", lambda part: _write_json(part, self.rows))

    def _keys(self, batch: DistillBatch) -> list[str]:
        keys = []
        for name, boxes in zip(batch.names, batch.boxes_norm, strict=True):
            stat = os.stat(name)
            file = f"{os.path.abspath(name)} {stat.st_size} {stat.st_mtime_ns}"
            keys += [
                hashlib.sha256(f"{file} {[round(value, 6) for value in box]}".encode()).hexdigest()[:24]
                for box in boxes.tolist()
            ]
        return keys

    def _add(self, keys: list[str], values: NDArray[np.float16]) -> None:
        start = len(self.rows)
        # A crop may stand twice in one batch; only its first row is kept.
        fresh = {key: value for key, value in zip(keys, values, strict=True) if key not in self.rows}
        if start + len(fresh) > len(self.store):
            self.store.flush()
            self.store = self._open(2 * (start + len(fresh)))
        for offset, (key, value) in enumerate(fresh.items()):
            self.store[start + offset] = value
            self.rows[key] = start + offset

    def _open(self, rows: int) -> "np.memmap[tuple[int, int], np.dtype[np.float16]]":
        path = self.folder / "embeddings.f16"
        size = max(rows * self.width * 2, path.stat().st_size if path.exists() else 0)
        with path.open("ab") as stream:
            stream.truncate(size)
        return np.memmap(path, dtype=np.float16, mode="r+", shape=(size // (2 * self.width), self.width))

    def _read_keys(self) -> dict[str, int]:
        path = self.folder / "keys.json"
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(key): int(row) for key, row in held.items()}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
