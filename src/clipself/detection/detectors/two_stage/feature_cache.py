"""The frozen backbone's taps on disk: computed once for each image and view, read ever after."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipself.backbones.trunk import ClipReading
from clipself.detection.detectors.two_stage.features import FrozenClip
from clipself.files import allocate, locked
from clipself.structures import DetectionBatch


class FeatureCache:
    """One memory-mapped float16 file; a row is an image in one of its views.

    Args:
        folder: Made when missing.
        identity: Tells pictures, views, canvas, number format and backbone from others.
        rows: Images times views.
        backbone: Gives the taps.
    """

    def __init__(self, folder: str | Path, *, identity: str, rows: int, backbone: FrozenClip) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256(f"{identity} {rows}".encode()).hexdigest()[:16]
        self.path, self.rows, self.backbone = folder / f"taps-{key}.f16", rows, backbone
        self._filled_path = folder / f"taps-{key}.filled"
        self._taps: Any = None
        self._filled: Any = None

    def __call__(self, batch: DetectionBatch, rows: Sequence[int], *, dense: bool) -> ClipReading:
        """Features of a batch; rows that are not there yet are computed and written.

        Args:
            batch: On the backbone's device.
            rows: Row of each image.
            dense: Whether the dense map is wanted.
        """
        missing = [place for place, row in enumerate(rows) if self._filled is None or not self._filled[row]]
        if missing:
            made = self.backbone(batch.images_B3HW[missing], dense=False)
            stacked = torch.stack(made.taps, dim=1).half().cpu().numpy()
            self._open(stacked.shape[1:])
            for place, taps in zip(missing, stacked, strict=True):
                self._taps[rows[place]] = taps
                self._filled[rows[place]] = 1
        held = torch.from_numpy(np.stack([self._taps[row] for row in rows])).to(batch.images_B3HW.device).float()
        taps = tuple(held.unbind(1))
        with torch.no_grad():
            return ClipReading(taps=taps, dense=self.backbone.read_dense(taps[-1]) if dense else None)

    def _open(self, shape: tuple[int, ...]) -> None:
        """Maps the files, made where they are missing."""
        if self._taps is not None:
            return
        sizes = {self.path: self.rows * int(np.prod(shape)) * 2, self._filled_path: self.rows}
        with locked(self._filled_path.with_suffix(".lock")):  # of two runs, one makes the files
            if not all(path.is_file() and path.stat().st_size == size for path, size in sizes.items()):
                for path in (self._filled_path, self.path):  # first what says which rows of the other are there
                    path.unlink(missing_ok=True)
                for path, size in sizes.items():
                    allocate(path, size)
        self._taps = np.memmap(self.path, dtype=np.float16, mode="r+", shape=(self.rows, *shape))
        self._filled = np.memmap(self._filled_path, dtype=np.uint8, mode="r+", shape=(self.rows,))

    def flush(self) -> None:
        """Writes what is still in memory, the taps ahead of what says that they are there."""
        for held in (self._taps, self._filled):
            if held is not None:
                held.flush()
