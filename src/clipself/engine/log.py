"""The log of a run: one JSON line a record, a text log, TensorBoard where it is installed and wanted."""

import json
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

from clipself.files import write_text


class RunLog:
    """Appends records to `metrics.jsonl`; only the main process writes.

    Args:
        folder: The run's folder.
        active: Whether this process writes at all.
        tensorboard: Whether to write TensorBoard events too.
        start: Steps that an earlier run has made; its events after them are not shown any more.

    Raises:
        ImportError: TensorBoard is wanted but not installed.
    """

    def __init__(self, folder: Path, *, active: bool = True, tensorboard: bool = False, start: int = 0) -> None:
        self.path, self.active = folder / "metrics.jsonl", active
        self._board: Any = None
        self._handler: logging.Handler | None = None
        if not active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("clipself").addHandler(self._handler)
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ImportError("tensorboard=True needs TensorBoard; pip install 'clipself[tensorboard]'") from error
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Appends one record; numbers also go to TensorBoard."""
        if not self.active:
            return
        # JSON has no infinity: the gradient norm of a step that the float16 scaler skips is written as null.
        plain = {name: _finite(value) for name, value in values.items()}
        record = {"kind": kind, "step": step, "time": round(time.time(), 3), **plain}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def drop_after(self, step: int) -> None:
        """Removes records past a step: a resumed run writes them again."""
        if self.active and self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.strip() and _step_of(line) <= step]
            write_text(self.path, "".join(f"{line}\n" for line in kept))

    def has(self, kind: str, step: int) -> bool:
        """Whether there is a record of a kind and step."""
        return any(record["step"] == step for record in read_metrics(self.path.parent, kind=kind))

    def close(self) -> None:
        """Lets go of the files."""
        if self._board is not None:
            self._board.close()
        if self._handler is not None:
            logging.getLogger("clipself").removeHandler(self._handler)
            self._handler.close()


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
