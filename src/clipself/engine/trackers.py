"""Trackers of experiments beside `metrics.jsonl`: each its library's own client, opened where a run asks for it."""

import csv
import io
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from clipself.choices import pick
from clipself.engine.config import flat
from clipself.files import read_json, write_json, write_text

log = logging.getLogger(__name__)

KEYS_NAME: Final = "trackers.json"
"""Holds by which names services know this run, so that its continuation goes on there."""

LONGEST_PARAM: Final = 500
"""Letters of a setting that every server of MLflow takes."""

PARAMS_AT_ONCE: Final = 100
"""Settings in one request, by MLflow's own bound."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedRun:
    """What a tracker is told of a run as it opens.

    Attributes:
        folder: The run's folder; its name is the run's name.
        settings: All settings, as plain values.
        start: Steps that an earlier part of the run has made.
        key: By which the tracker knows that earlier part; None for a new run.
    """

    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    start: int = 0
    key: str | None = None


class Tracker(Protocol):
    """Takes the numbers of a run."""

    @property
    def key(self) -> str | None:
        """By which it finds this run again; None where the folder alone says so."""

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Takes the numbers of one record; kind is "train" or "evaluation"."""

    def close(self, *, finished: bool) -> None:
        """Lets go; the run has come to its end, or it was stopped."""


class CsvTracker:
    """A table a kind of record: `csv/train.csv`, `csv/evaluation.csv`."""

    key: None = None

    def __init__(self, run: TrackedRun) -> None:
        self.folder = run.folder / "csv"
        self.folder.mkdir(exist_ok=True)
        self.columns: dict[str, list[str]] = {}
        for path in sorted(self.folder.glob("*.csv")):
            if rows := [row for row in _rows_of(path) if int(row["step"]) <= run.start]:
                self._rewrite(path.stem, rows, list(rows[0]))
            else:
                path.unlink()

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Appends a row; a number that is new here makes a column."""
        row: dict[str, Any] = {"step": step, **values}
        path, columns = self.folder / f"{kind}.csv", self.columns.get(kind, [])
        if new := [name for name in row if name not in columns]:
            self._rewrite(kind, _rows_of(path) if path.is_file() else (), [*columns, *new])
        with path.open("a", encoding="utf-8", newline="") as stream:
            csv.DictWriter(stream, self.columns[kind], lineterminator="\n").writerow(row)

    def close(self, *, finished: bool) -> None:
        """Nothing is held open."""

    def _rewrite(self, kind: str, rows: Iterable[Mapping[str, Any]], columns: list[str]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / f"{kind}.csv", text.getvalue())
        self.columns[kind] = columns


def _rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table, without those that a killed run has cut short."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if None not in row and None not in row.values()]


class TensorBoardTracker:
    """TensorBoard's events, in `tensorboard/`."""

    key: None = None

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Events past the state that is gone on with are not shown any more.
        self.writer: Any = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.start + 1)

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """A point of each curve."""
        for name, value in values.items():
            self.writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self, *, finished: bool) -> None:
        """Writes what is left."""
        self.writer.close()


class WandbTracker:
    """A run of Weights & Biases; WANDB_PROJECT, WANDB_MODE and its other variables say where."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self.run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "clipself"), name=run.folder.name, id=run.key, resume="allow",
            dir=run.folder, config=dict(run.settings), reinit="create_new",
        )  # fmt: skip
        self.key: str = self.run.id

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """A row of the run's history."""
        self.run.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)

    def close(self, *, finished: bool) -> None:
        """Waits until everything has arrived."""
        self.run.finish(exit_code=0 if finished else 1)


class MlflowTracker:
    """A run of MLflow; MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and its other variables say where."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self.client: Any = MlflowClient()
        if run.key is not None:
            self.client.update_run(run.key, status="RUNNING")
            self.key: str = run.key
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "clipself")
        found = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if found is None else found.experiment_id
        self.key = self.client.create_run(experiment, run_name=run.folder.name).info.run_id
        params = [Param(name, str(value)[:LONGEST_PARAM]) for name, value in flat(run.settings).items()]
        for first in range(0, len(params), PARAMS_AT_ONCE):
            self.client.log_batch(self.key, params=params[first : first + PARAMS_AT_ONCE])

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """A point of each metric."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        metrics = [Metric(f"{kind}/{name}", float(value), now, step) for name, value in values.items()]
        self.client.log_batch(self.key, metrics=metrics)

    def close(self, *, finished: bool) -> None:
        """Says how the run has ended."""
        self.client.set_terminated(self.key, status="FINISHED" if finished else "KILLED")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackerType:
    """One row.

    Attributes:
        open: Makes the tracker of a run.
        needs: Library that must be there; the extra of the tracker's name installs it.
        rewinds: Whether what an earlier part of the run told of the steps after its last state is taken back. If not,
            it is not told again: a resumed run repeats these steps to the same numbers.
    """

    open: Callable[[TrackedRun], Tracker]
    needs: str = ""
    rewinds: bool = False


TRACKERS: Final[Mapping[str, TrackerType]] = {
    "csv": TrackerType(open=CsvTracker, rewinds=True),
    "mlflow": TrackerType(open=MlflowTracker, needs="mlflow"),
    "tensorboard": TrackerType(open=TensorBoardTracker, needs="tensorboard", rewinds=True),
    "wandb": TrackerType(open=WandbTracker, needs="wandb"),
}


def check_trackers(names: Sequence[str]) -> None:
    """Refuses trackers whose library is missing, ahead of everything else.

    Raises:
        ImportError: One is.
        ValueError: There is no such tracker.
    """
    for name in names:
        needs = pick(TRACKERS, name, what="tracker").needs
        if needs and find_spec(needs) is None:
            raise ImportError(f"track={name} needs {needs}, which is not installed; pip install 'clipself[{name}]'")


class Trackers:
    """All trackers of a run as one; one that fails is left out from then on, with a warning, and the run goes on.

    Args:
        names: Rows of `TRACKERS`.
        folder: The run's folder.
        settings: All settings, as plain values.
        start: Steps that an earlier part of the run has made.
        told: The last step of each kind that this part told of, before it was stopped; None for a new run.
    """

    def __init__(
        self, names: Sequence[str], folder: Path, *, settings: Mapping[str, Any], start: int = 0,
        told: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.opened: dict[str, Tracker] = {}
        self.told: dict[str, Mapping[str, int]] = {}
        path = folder / KEYS_NAME
        keys: dict[str, str] = read_json(path, what="list of trackers") if told is not None and path.is_file() else {}
        for name in dict.fromkeys(names):
            kind, key = pick(TRACKERS, name, what="tracker"), keys.get(name)
            run = TrackedRun(folder=folder, settings=settings, start=start, key=key)
            with self._unharmed(name):
                tracker = self.opened[name] = kind.open(run)
                self.told[name] = told if told and key and not kind.rewinds else {}
                if tracker.key is not None:
                    keys[name] = tracker.key
        path.unlink(missing_ok=True) if not keys else write_json(path, keys)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Tells all of them the numbers of a record."""
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        for name, tracker in list(self.opened.items()):
            if step > self.told[name].get(kind, 0):
                with self._unharmed(name):
                    tracker.write(kind, step, numbers)

    def close(self, *, finished: bool) -> None:
        """Lets go of all of them."""
        for name, tracker in list(self.opened.items()):
            with self._unharmed(name):
                tracker.close(finished=finished)
        self.opened.clear()

    @contextmanager
    def _unharmed(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever the library or its service raises
            self.opened.pop(name, None)
            log.warning(
                "the tracker %s has failed and is left out from here on (%s: %s); metrics.jsonl goes on",
                name, type(error).__name__, error,
            )  # fmt: skip
