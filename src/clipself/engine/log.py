"""The log of a run: one JSON line a record, a text log, and the trackers that are wanted."""

import json
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipself.engine.trackers import Trackers
from clipself.files import write_text


class RunLog:
    """Appends records to `metrics.jsonl` and tells the trackers; only the main process writes.

    Args:
        folder: The run's folder.
        active: Whether this process writes at all.
        track: Trackers beside it, rows of `TRACKERS`.
        settings: All settings of the run, for the trackers.
        start: Steps that an earlier part of the run has made; its records after them are removed.
        resumed: Whether there is an earlier part, of which services may know.
    """

    def __init__(
        self, folder: Path, *, active: bool = True, track: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None, start: int = 0, resumed: bool = False,
    ) -> None:  # fmt: skip
        self.path, self.active = folder / "metrics.jsonl", active
        self._handler: logging.Handler | None = None
        self._trackers: Trackers | None = None
        if not active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("clipself").addHandler(self._handler)
        told = self._last_steps() if resumed else None
        self._drop_after(start)
        self._trackers = Trackers(track, folder, settings=settings or {}, start=start, told=told)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Appends one record; numbers also go to the trackers."""
        if not self.active:
            return
        # JSON has no infinity: the gradient norm of a step that the float16 scaler skips is written as null.
        plain = {name: _finite(value) for name, value in values.items()}
        record = {"kind": kind, "step": step, "time": round(time.time(), 3), **plain}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        if self._trackers is not None:
            self._trackers.write(kind, step, values)

    def has(self, kind: str, step: int) -> bool:
        """Whether there is a record of a kind and step."""
        return any(record["step"] == step for record in read_metrics(self.path.parent, kind=kind))

    def close(self, *, finished: bool = True) -> None:
        """Lets go of the files and trackers; the run has come to its end, or it was stopped."""
        if self._trackers is not None:
            self._trackers.close(finished=finished)
        if self._handler is not None:
            logging.getLogger("clipself").removeHandler(self._handler)
            self._handler.close()

    def _drop_after(self, step: int) -> None:
        """Removes records past a step: a resumed run writes them again."""
        if self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.strip() and _step_of(line) <= step]
            write_text(self.path, "".join(f"{line}\n" for line in kept))

    def _last_steps(self) -> dict[str, int]:
        """The last step of each kind of record."""
        found: dict[str, int] = {}
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        for line in lines:
            if line.strip() and _step_of(line) < sys.maxsize:
                record = json.loads(line)
                found[record["kind"]] = int(record["step"])
        return found


def read_metrics(folder: str | Path, *, kind: str = "train") -> list[dict[str, Any]]:
    """The records of one kind of a run."""
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        return []
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [record for record in records if record["kind"] == kind]


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return sys.maxsize  # a line cut short by a killed run goes too


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
