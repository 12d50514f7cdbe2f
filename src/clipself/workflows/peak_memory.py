"""The most memory that a piece of work holds at a time."""

from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Final

import torch

STATUS: Final = Path("/proc/self/statm")
"""Where Linux says how many pages a process holds."""
EVERY: Final = 0.02
"""Seconds between two looks."""


class PeakMemory:
    """Of a CUDA device what tensors hold; elsewhere what the process holds, where the system says so.

    Attributes:
        mib: MiB at the most; None where nobody knows.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.mib = device, None if device.type != "cuda" and not STATUS.is_file() else 0.0
        self._done = Event()
        self._watch = Thread(target=self._look, daemon=True)

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.mib is not None:
            self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.device.type == "cuda":
            self.mib = torch.cuda.max_memory_allocated(self.device) / 2**20
        elif self.mib is not None:
            self._done.set()
            self._watch.join()

    def _look(self) -> None:
        from resource import getpagesize

        page = getpagesize()
        ending = False
        while True:  # once more at the end: work may be shorter than the time between two looks
            self.mib = max(self.mib or 0.0, int(STATUS.read_text().split()[1]) * page / 2**20)
            if ending:
                return
            ending = self._done.wait(EVERY)
