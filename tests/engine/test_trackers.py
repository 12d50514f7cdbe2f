"""Trackers get what `metrics.jsonl` holds, each step once, and can never end a training."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

import pytest
from tests.support.processes import in_two_processes
from tests.support.training import act_at, kill, train_toy

from clipself.engine import trackers
from clipself.engine.log import read_metrics
from clipself.engine.trackers import TRACKERS, TrackerType

EVALUATED: Final[dict[str, Any]] = {
    "data": "d", "evaluate_every": 3, "evaluate_annotations": "labels.json", "evaluate_images": "pictures",
}  # fmt: skip
TIMES: Final = ("images_per_s", "data_s")
"""Numbers that a step which is made again does not repeat."""


def killed_at(at: int, out: Path, **options: Any) -> None:

    with pytest.MonkeyPatch.context() as patch:
        act_at(patch, at, kill)
        with pytest.raises(SystemExit):
            train_toy(out=out, **EVALUATED, **options)


def logged(out: Path) -> dict[str, list[tuple[int, Any]]]:
    """Curve by name, out of `metrics.jsonl`."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for kind in ("train", "evaluation"):
        for record in read_metrics(out, kind=kind):
            for name, value in record.items():
                if name not in ("kind", "step", "time", *TIMES):
                    found.setdefault(f"{kind}/{name}", []).append((record["step"], pytest.approx(value, rel=1e-6)))
    return found


def tables(out: Path) -> dict[str, list[tuple[int, float]]]:
    """The same out of the CSVs."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in (out / "csv").glob("*.csv"):
        with path.open(newline="") as stream:
            for row in csv.DictReader(stream):
                for name, value in row.items():
                    if name not in ("step", *TIMES) and value != "":
                        found.setdefault(f"{path.stem}/{name}", []).append((int(row["step"]), float(value)))
    return found


@pytest.mark.parametrize("at", [None, 1, 3, 5])
def test_tables_hold_every_number_once(tmp_path: Path, at: int | None) -> None:
    if at is None:
        train_toy(out=tmp_path / "run", track="csv", **EVALUATED)
    else:
        killed_at(at, tmp_path / "run", track=["csv"])
        with (tmp_path / "run/csv/train.csv").open("a") as stream:
            stream.write("1,0.5")  # cut short
        train_toy(out=tmp_path / "run", resume=True)
    found = tables(tmp_path / "run")
    assert found == logged(tmp_path / "run")
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in found["evaluation/slope"]] == [3, 6]


def test_a_table_grows_by_numbers_that_come_later(tmp_path: Path) -> None:
    table = trackers.CsvTracker(trackers.TrackedRun(folder=tmp_path))
    table.write("train", 1, {"boxes": 0.5})
    table.write("train", 2, {"labels": 2})
    table.write("train", 3, {"boxes": 1.5})
    assert (tmp_path / "csv/train.csv").read_text() == "step,boxes,labels\n1,0.5,\n2,,2\n3,1.5,\n"


class Service:
    """What W&B and MLflow keep, in memory: runs by their key."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}

    def open(self, key: str | None, name: str) -> str:
        key = key or f"key-{len(self.runs)}"
        self.runs.setdefault(key, {"name": name, "curves": {}, "params": {}, "ended": None})
        return key

    def add(self, key: str, name: str, step: int, value: float) -> None:
        self.runs[key]["curves"].setdefault(name, []).append((step, value))


def stand_in_wandb(service: Service) -> dict[str, ModuleType]:
    class Run:
        def __init__(self, key: str) -> None:
            self.id = key

        def log(self, values: dict[str, float], step: int) -> None:
            for name, value in values.items():
                service.add(self.id, name, step, value)

        def finish(self, exit_code: int) -> None:
            service.runs[self.id]["ended"] = exit_code == 0

    def init(*, project: str, name: str, id: str | None, resume: str, dir: Path, config: Any, reinit: str) -> Run:
        assert (project, resume, reinit) == ("clipself", "allow", "create_new")
        run = Run(service.open(id, name))
        service.runs[run.id]["params"].update(config)
        return run

    module: Any = ModuleType("wandb")
    module.init = init
    return {"wandb": module}


def stand_in_mlflow(service: Service) -> dict[str, ModuleType]:
    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            assert name == "clipself"

        def create_experiment(self, name: str) -> str:
            return "7"

        def create_run(self, experiment: str, run_name: str) -> Any:
            return SimpleNamespace(info=SimpleNamespace(run_id=service.open(None, run_name)))

        def update_run(self, key: str, status: str) -> None:
            assert status == "RUNNING"
            assert key in service.runs

        def log_batch(self, key: str, metrics: Any = (), params: Any = ()) -> None:
            assert len(params) <= 100
            for name, value, _, step in metrics:
                service.add(key, name, step, value)
            service.runs[key]["params"].update(params)

        def set_terminated(self, key: str, status: str) -> None:
            service.runs[key]["ended"] = status == "FINISHED"

    module: Any = ModuleType("mlflow")
    entities: Any = ModuleType("mlflow.entities")
    module.MlflowClient, entities.Metric, entities.Param = Client, lambda *parts: parts, lambda *parts: parts
    return {"mlflow": module, "mlflow.entities": entities}


STAND_INS: Final[dict[str, Callable[[Service], dict[str, ModuleType]]]] = {
    "wandb": stand_in_wandb, "mlflow": stand_in_mlflow,
}  # fmt: skip


@pytest.fixture
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Service:
    kept = Service()
    for name, module in STAND_INS[request.param](kept).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    return kept


@pytest.mark.parametrize("at", [1, 3, 5])
@pytest.mark.parametrize(("service", "name"), [(name, name) for name in STAND_INS], indirect=["service"])
def test_a_service_hears_of_each_step_once_in_one_run(tmp_path: Path, service: Service, name: str, at: int) -> None:
    killed_at(at, tmp_path / "run", track=[name])
    (held,) = service.runs.values()
    assert held["ended"] is False
    train_toy(out=tmp_path / "run", resume=True)
    (held,) = service.runs.values()
    curves = {name: curve for name, curve in held["curves"].items() if name.split("/")[1] not in TIMES}
    assert curves == logged(tmp_path / "run")
    assert [step for step, _ in curves["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert (held["ended"], held["name"]) == (True, "run")
    assert str(held["params"]["max_steps"]) == "6"
    train_toy(out=tmp_path / "run", overwrite=True, track=[name], **EVALUATED)
    assert len(service.runs) == 2  # a new run


@pytest.mark.parametrize("service", ["wandb"], indirect=True)
def test_one_that_joins_later_hears_of_what_is_left(tmp_path: Path, service: Service) -> None:
    killed_at(5, tmp_path / "run")
    train_toy(out=tmp_path / "run", resume=True, track="wandb")
    (held,) = service.runs.values()
    assert [step for step, _ in held["curves"]["train/loss"]] == [5, 6]


@pytest.mark.parametrize("moment", ["open", "write", "close"])
def test_one_that_fails_is_left_out_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    class Failing:
        key: None = None

        def __init__(self, run: Any) -> None:
            self.fail("open")

        def write(self, *record: Any) -> None:
            self.fail("write")

        def close(self, *, finished: bool) -> None:
            self.fail("close")

        def fail(self, now: str) -> None:
            if now == moment:
                raise ConnectionError("the service is down")

    monkeypatch.setattr(trackers, "TRACKERS", {**TRACKERS, "wandb": TrackerType(open=Failing)})
    train_toy(data="d", out=tmp_path / "failing", track=["wandb", "csv"])
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [
        "the tracker wandb has failed and is left out from here on (ConnectionError: the service is down); "
        "metrics.jsonl goes on"
    ]
    assert tables(tmp_path / "failing") == logged(tmp_path / "failing")
    assert (tmp_path / "failing/result.json").is_file()


@pytest.mark.parametrize("name", sorted(set(TRACKERS) - {"csv"}))
def test_a_missing_library_is_named_ahead_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, TRACKERS[name].needs, None)
    with pytest.raises(ImportError, match=rf"track={name} needs {name}, which .* pip install 'clipself\[{name}\]'"):
        train_toy(data="d", out=tmp_path / "run", track=name)
    assert not (tmp_path / "run").exists()


def _train(out: str) -> None:
    train_toy(out=out, track=["csv", "tensorboard"], **EVALUATED)


def test_the_main_process_alone_tells(tmp_path: Path) -> None:
    in_two_processes(_train, str(tmp_path / "two"))
    assert tables(tmp_path / "two") == logged(tmp_path / "two")
    assert len(list((tmp_path / "two/tensorboard").iterdir())) == 1


def test_the_old_switch_is_still_taken(tmp_path: Path) -> None:
    from clipself.distillation.config import DistillConfig
    from clipself.engine.resolve import resolve

    with pytest.warns(FutureWarning, match="tensorboard of DistillConfig is now track=tensorboard"):
        config = resolve(DistillConfig, None, data="d", out="o", tensorboard=True)
    assert config.track == ("tensorboard",)
    assert resolve(DistillConfig, None, {"data": "d", "out": "o", "tensorboard": False}).track == ()


def records_of(file: Path) -> Iterator[bytes]:
    """What an offline run of W&B holds: LevelDB's log behind a header of 7 bytes."""
    data, place, held = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        held += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            yield held
            held = b""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
@pytest.mark.filterwarnings("ignore")  # of its own
def test_offline_runs_of_wandb_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    killed_at(3, tmp_path / "run", track="wandb")
    train_toy(out=tmp_path / "run", resume=True)
    files = sorted((tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1  # parts of one run, by its id
    found: dict[str, list[tuple[int, float]]] = {}
    for file in files:
        for raw in records_of(file):
            record: Any = wandb_internal_pb2.Record()
            record.ParseFromString(raw)
            if record.WhichOneof("record_type") == "run":
                assert (record.run.project, record.run.display_name) == ("clipself", "run")
            for item in record.history.item if record.WhichOneof("record_type") == "history" else ():
                name = item.key or "/".join(item.nested_key)
                if name[0] != "_" and name.split("/")[1] not in TIMES:
                    found.setdefault(name, []).append((record.history.step.num, json.loads(item.value_json)))
    assert found == logged(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
@pytest.mark.filterwarnings("ignore")  # of its own
def test_runs_of_mlflow_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the slim package has no database
    killed_at(3, tmp_path / "run", track="mlflow")
    train_toy(out=tmp_path / "run", resume=True)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("clipself")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name, run.data.params["head.width"]) == ("FINISHED", "run", "2")
    found = {
        name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
        if name.split("/")[1] not in TIMES
    }
    assert found == logged(tmp_path / "run")
