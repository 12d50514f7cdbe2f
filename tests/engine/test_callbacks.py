"""What a caller of a training is told on the way, and how it ends one early."""

from pathlib import Path
from typing import Any, Final

import pytest
import torch
from tests.support.processes import in_two_processes
from tests.support.training import train_toy, weights_of

from clipself.engine.callbacks import Progress
from clipself.engine.log import read_metrics

EVALUATED: Final[dict[str, Any]] = {
    "data": "d", "evaluate_every": 3, "evaluate_annotations": "labels.json", "evaluate_images": "pictures",
    "save_every": 0,
}  # fmt: skip


def test_they_are_told_what_the_log_holds(tmp_path: Path) -> None:
    steps: list[Progress] = []
    evaluations: list[Progress] = []
    train_toy(out=tmp_path / "run", on_step=steps.append, on_evaluate=evaluations.append, **EVALUATED)
    for kind, told in (("train", steps), ("evaluation", evaluations)):
        records = read_metrics(tmp_path / "run", kind=kind)
        assert [{"kind": kind, "step": one.step, "time": 0, **one.values} for one in told] == [
            {**record, "time": 0} for record in records
        ]
    assert {one.total_steps for one in [*steps, *evaluations]} == {6}
    assert {one.out for one in steps} == {tmp_path / "run"}
    assert len(list(steps[-1].model.parameters())) == 4


def _stop_at(out: str, name: str, step: int) -> None:
    def stop(seen: Progress) -> None:
        if seen.step == step:
            seen.stop()

    called: dict[str, Any] = {name: stop}
    result = train_toy(out=out, **called, **EVALUATED)
    assert result.steps == step


@pytest.mark.parametrize(("name", "step"), [("on_step", 2), ("on_step", 3), ("on_step", 6), ("on_evaluate", 3)])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_was_ended_is_a_result_and_goes_on(tmp_path: Path, name: str, step: int, processes: int) -> None:
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    if processes == 1:
        train_toy(out=whole, **EVALUATED)
        _stop_at(str(ended), name, step)
    else:
        in_two_processes(_train, str(whole))
        in_two_processes(_stop_at, str(ended), name, step)
    assert len(read_metrics(ended)) == step
    assert len(read_metrics(ended, kind="evaluation")) == step // 3
    assert (ended / "toy.pt").is_file()
    in_two_processes(_resume, str(ended)) if processes == 2 else train_toy(out=ended, resume=True)
    one, two = weights_of(whole), weights_of(ended)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert len(read_metrics(ended, kind="evaluation")) == 2


def _train(out: str) -> None:
    train_toy(out=out, **EVALUATED)


def _resume(out: str) -> None:
    train_toy(out=out, resume=True)


def test_what_they_raise_ends_the_run_as_any_error(tmp_path: Path) -> None:
    def fail(seen: Progress) -> None:
        if seen.step == 3:
            raise RuntimeError("a slip of the caller")

    with pytest.raises(RuntimeError, match="a slip of the caller"):
        train_toy(data="d", out=tmp_path / "run", on_step=fail)
    train_toy(out=tmp_path / "run", resume=True)  # from the state of step 2
    assert len(read_metrics(tmp_path / "run")) == 6


def test_what_cannot_be_called_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_evaluate=3 cannot be called; pass a function of one argument"):
        train_toy(data="d", out=tmp_path / "run", on_evaluate=3)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
