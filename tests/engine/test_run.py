"""Runs of a toy task: begun, stopped, resumed, lengthened, spread over processes, refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from tests.support.processes import in_processes, in_two_processes
from tests.support.training import ToyBatch, ToyNumbers, ToyTask, act_at, kill, train_toy, weights_of
from torch import Tensor, nn

from clipself.engine.config import flat
from clipself.engine.fields import defaults_of
from clipself.engine.folder import RunFolder
from clipself.engine.log import read_metrics
from clipself.engine.step import Step
from clipself.engine.stopping import Stopped, StopRequest
from clipself.files import locked


def same(one: Path, two: Path) -> bool:
    first, second = weights_of(one), weights_of(two)
    return all(torch.equal(first[name], second[name]) for name in first) and losses(one) == losses(two)


def nearly(one: Path, two: Path) -> bool:
    first, second = weights_of(one), weights_of(two)
    return all(torch.allclose(first[name], second[name], rtol=0, atol=1e-6) for name in first)


def losses(out: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(out)]


def broken_run(out: Path, monkeypatch: pytest.MonkeyPatch, at: int, **options: Any) -> None:
    with monkeypatch.context() as patch:
        act_at(patch, at, kill)
        with pytest.raises(SystemExit):
            train_toy(data="d", out=out, **options)


def test_terms_and_counts_are_logged_and_the_result_tells(tmp_path: Path) -> None:
    result = train_toy(data="d", out=str(tmp_path / "run"))
    record = read_metrics(tmp_path / "run")[0]
    assert record["loss"] == pytest.approx(record["items_error"] + record["images_error"])
    assert record["images"] == 4
    assert isinstance(record["items"], int)
    assert "each" not in record
    assert result.toy == tmp_path / "run" / "toy.pt"
    assert result.to_table().splitlines() == [
        f"6 steps, loss {result.first_loss:.4f} -> {result.last_loss:.4f}", f"toy  {result.toy}",
        f"next: look at {tmp_path / 'run'}",
    ]  # fmt: skip
    assert json.loads((tmp_path / "run/result.json").read_text())["toy"] == str(result.toy)
    with pytest.raises(AttributeError, match="no 'student'"):
        _ = result.student


def test_a_rerun_is_equal_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    train_toy(data="d", out=tmp_path / "a")
    drawn = torch.rand(1)
    train_toy(data="d", out=tmp_path / "b", workers=2)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert same(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "batch_size": 2}], ids=["plain", "accumulated"])
@pytest.mark.parametrize("at", [1, 4, 5])
def test_resumed_equals_unbroken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, options: dict[str, Any]
) -> None:
    train_toy(data="d", out=tmp_path / "whole", **options)
    broken_run(tmp_path / "broken", monkeypatch, at, **options)
    train_toy(out=tmp_path / "broken", resume=True)  # the folder knows the rest
    assert same(tmp_path / "whole", tmp_path / "broken")


def test_layers_that_draw_by_themselves_are_resumed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dropping(ToyTask):
        def __init__(self, config: Any, world: Any) -> None:
            super().__init__(config, world)
            self.model[1].p = 0.5  # type: ignore[index]

    train_toy(data="d", out=tmp_path / "whole", task=Dropping)
    broken_run(tmp_path / "broken", monkeypatch, 3, task=Dropping)
    train_toy(out=tmp_path / "broken", resume=True, task=Dropping)
    assert same(tmp_path / "whole", tmp_path / "broken")


def test_micro_batches_weigh_by_what_they_count(tmp_path: Path) -> None:
    train_toy(data="d", out=tmp_path / "one", batch_size=8, eps=1e-3)
    train_toy(data="d", out=tmp_path / "four", batch_size=2, accumulate=4, eps=1e-3)
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "four"), rel=1e-5)


def _train_together(out: Path, options: dict[str, Any]) -> None:
    train_toy(data="d", out=out, **options)


def _break_together(out: Path, options: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        act_at(patch, 3, kill)
        with pytest.raises(SystemExit):
            train_toy(data="d", out=out, **options)


def test_two_processes_are_one_and_are_resumed(tmp_path: Path) -> None:
    train_toy(data="d", out=tmp_path / "one", batch_size=4, eps=1e-3)
    half = {"batch_size": 2, "eps": 1e-3}
    in_two_processes(_train_together, tmp_path / "two", half)
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), rel=1e-5)
    in_two_processes(_break_together, tmp_path / "broken", half)
    in_two_processes(_train_together, tmp_path / "broken", {**half, "resume": True})
    assert same(tmp_path / "two", tmp_path / "broken")


def test_a_run_goes_on_with_other_processes_to_equal_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"batch_size": 2, "eps": 1e-3, "max_steps": 7}
    in_two_processes(_train_together, tmp_path / "two", options)
    in_two_processes(_break_together, tmp_path / "broken", options)
    broken_run(tmp_path / "alone", monkeypatch, 3, **{**options, "batch_size": 4})
    for name in ("given", "refused", "without-state"):
        copytree(tmp_path / "broken", tmp_path / name)
    caplog.set_level("INFO", logger="clipself")
    train_toy(out=tmp_path / "broken", resume=True)
    assert "each of 1 processes takes 2 micro-batches of 2 images a step, so that it has 4 as before" in caplog.text
    in_two_processes(_train_together, tmp_path / "alone", {"resume": True})
    train_toy(out=tmp_path / "given", resume=True, batch_size=1, accumulate=4)
    (tmp_path / "without-state/training_state.pt").unlink()
    train_toy(out=tmp_path / "without-state", resume=True)
    for name in ("broken", "alone", "given", "without-state"):
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "two"), rel=1e-5)
        assert nearly(tmp_path / name, tmp_path / "two")
    assert json.loads((tmp_path / "given/config.json").read_text())["batch_size"] == 2  # as it began
    with pytest.raises(ValueError, match=r"a step of this run has 4 images \(2 in each of 1 micro-batches on 2\)"):
        train_toy(out=tmp_path / "refused", resume=True, batch_size=4, accumulate=2)


def _stop_together(out: Path, options: dict[str, Any]) -> None:
    def ask_one() -> None:
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        act_at(patch, 4, ask_one)
        with pytest.raises(Stopped, match="after 5 steps") as stopped:
            train_toy(data="d", out=out, save_every=0, **options)
    assert stopped.value.code == 75


@pytest.mark.parametrize("processes", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_stopped_on_two_processes_it_goes_on_with_one_or_four(tmp_path: Path, processes: int) -> None:
    options = {"batch_size": 2, "eps": 1e-3, "max_steps": 12}
    in_two_processes(_train_together, tmp_path / "whole", options)
    in_two_processes(_stop_together, tmp_path / "run", options)
    assert len(losses(tmp_path / "run")) == 5
    if processes == 1:
        train_toy(out=tmp_path / "run", resume="auto")
    else:
        in_processes(processes, _train_together, tmp_path / "run", {"resume": True})
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    assert nearly(tmp_path / "run", tmp_path / "whole")


def test_a_state_of_before_cuts_were_kept_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_toy(data="d", out=tmp_path / "whole")
    broken_run(tmp_path / "run", monkeypatch, 3)
    state = torch.load(tmp_path / "run/training_state.pt", weights_only=True)
    del state["cut"]
    state["settings"] |= {"batch_size": 2, "accumulate": 1}
    state["identity"]["processes"] = "2"
    torch.save(state, tmp_path / "run/training_state.pt")
    train_toy(out=tmp_path / "run", resume=True, batch_size=2, accumulate=2)
    assert nearly(tmp_path / "whole", tmp_path / "run")


def test_the_same_command_begins_goes_on_and_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command: dict[str, Any] = {"lr": 0.02, "resume": "auto"}
    train_toy(data="d", out=tmp_path / "whole", **command)
    broken_run(tmp_path / "run", monkeypatch, 3, **command)
    train_toy(data="d", out=tmp_path / "run", **command)
    assert same(tmp_path / "whole", tmp_path / "run")
    train_toy(data="d", out=tmp_path / "run", **command)
    assert same(tmp_path / "whole", tmp_path / "run")
    train_toy(out=tmp_path / "run", resume="auto")  # the folder knows the rest
    (tmp_path / "run/config.json").unlink()
    with pytest.raises(FileExistsError, match="already holds a run"):
        train_toy(data="d", out=tmp_path / "run", **command)


def _refuse_together(out: Path) -> None:
    with pytest.raises((FileExistsError, ValueError), match=r"already holds a run|another process of this run"):
        train_toy(data="d", out=out)


def test_what_one_process_refuses_ends_all(tmp_path: Path) -> None:
    train_toy(data="d", out=tmp_path / "run")
    in_two_processes(_refuse_together, tmp_path / "run")


STOPS = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75}


@pytest.mark.parametrize("number", STOPS)
def test_a_request_to_stop_is_met_after_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    train_toy(data="d", out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        act_at(patch, 2, lambda: os.kill(os.getpid(), number))
        with pytest.raises(
            Stopped, match=r"after 3 steps; the state is kept, go on with it by resume \(--resume\)"
        ) as stopped:
            train_toy(data="d", out=tmp_path / "run")
    assert stopped.value.code == STOPS[number]
    assert signal.getsignal(number) == before
    train_toy(out=tmp_path / "run", resume=True)
    assert same(tmp_path / "whole", tmp_path / "run")


def test_what_schedulers_repeat_changes_nothing_and_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    def asked(*numbers: int) -> Any:
        def act() -> None:
            for number in numbers:
                os.kill(os.getpid(), number)

        with pytest.MonkeyPatch.context() as patch:
            act_at(patch, 2, act)
            with pytest.raises(Stopped) as stopped:
                train_toy(data="d", out=tmp_path / "run", overwrite=True, save_every=0)
        return stopped.value.code, str(stopped.value), (tmp_path / "run/training_state.pt").exists()

    assert asked(signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM)[0::2] == (75, True)
    assert asked(signal.SIGTERM, signal.SIGINT) == (130, "stopped", True)  # the earlier run, which is brought back
    (tmp_path / "run/training_state.pt").unlink()
    assert asked(signal.SIGINT, signal.SIGINT) == (130, "stopped", False)


def test_a_request_ends_the_wait_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ToyNumbers.__getitem__

    def slow(self: ToyNumbers, key: Any) -> Any:
        reads.append(key)
        if len(reads) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return read(self, key)

    reads: list[Any] = []
    monkeypatch.setattr(ToyNumbers, "__getitem__", slow)
    begun = time.monotonic()
    with pytest.raises(Stopped, match="stopped after 2 steps"):
        train_toy(data="d", out=tmp_path / "run", save_every=0)
    assert time.monotonic() - begun < 30
    monkeypatch.undo()
    train_toy(data="d", out=tmp_path / "whole")
    train_toy(out=tmp_path / "run", resume=True)
    assert same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("number", STOPS)
def test_a_request_that_reaches_the_workers_too_is_met_after_the_step(tmp_path: Path, number: signal.Signals) -> None:
    out, root = tmp_path / "run", str(Path(__file__).parents[2])
    code = f"from tests.support.training import train_toy; train_toy(data='d', out={str(out)!r}, {{}})"
    words = [sys.executable, "-c", code.format("workers=2, max_steps=10**6, save_every=0")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
    child = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while not (out / "metrics.jsonl").exists() or not read_metrics(out):
            assert time.monotonic() < until
            time.sleep(0.05)
        os.killpg(child.pid, number)  # as a terminal does, and a cluster that wants its machine back
        said = child.communicate(timeout=60)[1]
    finally:
        child.kill()
    assert "the state is kept, go on with it by resume" in said
    assert (out / "training_state.pt").exists()


def test_a_worker_that_was_just_forked_leaves_a_signal_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    request = StopRequest()
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: -1)
        request.ask(signal.SIGTERM)
    assert request.code == 0
    with pytest.raises(Stopped):
        request.ask(signal.SIGTERM)


def test_a_longer_run_is_a_new_phase(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train_toy(data="d", out=tmp_path / "run", max_steps=4)
    caplog.set_level("INFO", logger="clipself")
    result = train_toy(out=tmp_path / "run", resume=True, max_steps=8)
    assert "a new phase: steps 5 to 8, with a warm-up and a schedule of its own" in caplog.text
    assert result.steps == 8
    rates = [record["lr"] for record in read_metrics(tmp_path / "run")]
    assert rates[4:] == rates[:4]
    with pytest.raises(ValueError, match="was to have 8 steps and has made 8; 6 are fewer"):
        train_toy(out=tmp_path / "run", resume=True, max_steps=6)
    again = train_toy(out=tmp_path / "run", resume=True, epochs=5)  # of two steps each
    assert again.steps == 10


def test_the_new_phase_is_resumed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in ("whole", "broken"):
        train_toy(data="d", out=tmp_path / run, max_steps=4)
    train_toy(out=tmp_path / "whole", resume=True, max_steps=9)
    with monkeypatch.context() as patch:
        act_at(patch, 6, kill)
        with pytest.raises(SystemExit):
            train_toy(out=tmp_path / "broken", resume=True, max_steps=9)
    train_toy(out=tmp_path / "broken", resume=True)
    assert same(tmp_path / "whole", tmp_path / "broken")


def test_resume_names_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    train_toy(data=tmp_path / "d", out=run)
    with pytest.raises(ValueError, match=r"other settings: lr was 0\.01 and is 0\.02; leave out what differs"):
        train_toy(out=run, resume=True, lr=0.02)
    with pytest.raises(ValueError, match=r"head\.width was 2 and is 5; seed was 0 and is 1"):
        train_toy(out=run, resume=True, seed=1, head={"width": 5})
    with pytest.raises(ValueError, match=r"data was '.*d' and is '.*elsewhere'"):
        train_toy(out=run, resume=True, data=tmp_path / "elsewhere")
    with monkeypatch.context() as patch:
        patch.setattr(ToyTask, "names", ("8.png", *ToyTask.names[1:]))  # a picture that was renamed
        with pytest.raises(ValueError, match=r"images was '8 with digest .*' and is '8 with digest"):
            train_toy(out=run, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(ToyTask, "identity", lambda self: {"kind of toy": "second"})
        with pytest.raises(ValueError, match="kind of toy was 'first' and is 'second'"):
            train_toy(out=run, resume=True)
    monkeypatch.chdir(tmp_path)
    train_toy(out="run", resume=True, data="d", workers=1, save_every=5)  # the same folder, said otherwise


def test_resume_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FileNotFoundError, match="holds no run to go on with"):
        train_toy(data="d", out=tmp_path / "none", resume=True)
    with pytest.raises(FileNotFoundError, match="holds no run to go on with"):
        train_toy(data="d", out=tmp_path / "none", resume=True, recipe="small")
    broken_run(tmp_path / "early", monkeypatch, 1)
    train_toy(out=tmp_path / "early", resume=True)
    assert "was stopped ahead of its first saved state; the run starts from its beginning" in caplog.text
    train_toy(data="d", out=tmp_path / "whole")
    assert same(tmp_path / "whole", tmp_path / "early")


def test_a_state_of_an_older_version_is_refused(tmp_path: Path) -> None:
    train_toy(data="d", out=tmp_path / "run")
    torch.save({"format": "clipself training state 1", "step": 3}, tmp_path / "run/training_state.pt")
    with pytest.raises(ValueError, match="was written by an older version of clipself"):
        train_toy(out=tmp_path / "run", resume=True)


def test_settings_that_an_older_state_did_not_know_are_what_their_defaults_say(tmp_path: Path) -> None:
    train_toy(data="d", out=tmp_path / "run", max_steps=4)
    state = torch.load(tmp_path / "run/training_state.pt", weights_only=True)
    held = {name: value for name, value in state["settings"].items() if value not in ([], ())}
    assert len(held) < len(state["settings"])  # an empty tuple is a default here, and JSON's list beside it
    torch.save({**state, "settings": held}, tmp_path / "run/training_state.pt")
    assert train_toy(out=tmp_path / "run", resume=True, max_steps=6).steps == 6


def test_defaults_of_nested_settings_are_named_by_the_class_that_stands_there() -> None:
    from clipself.detection.recipes import DETECT_RECIPES

    held = flat(defaults_of(DETECT_RECIPES["small-detic-centernet"]()))
    assert held["detector.cascade.trunk"] == "resnet50"
    assert held["drop_epochs"] == []
    assert "annotations" not in held  # has none


def test_overwriting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    train_toy(data="d", out=run)
    (run / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="already holds a run; go on with it by resume"):
        train_toy(data="d", out=run)
    with pytest.raises(ValueError, match="choose one of them"):
        train_toy(data="d", out=run, resume=True, overwrite=True)
    before = (run / "training_state.pt").read_bytes()
    with pytest.raises(ValueError, match="8 images do not fill one batch of 9"):
        train_toy(data="d", out=run, overwrite=True, batch_size=9)
    assert (run / "training_state.pt").read_bytes() == before  # nothing was lost to a run that could not begin
    assert json.loads((run / "config.json").read_text())["batch_size"] == 4
    held = {path.name for path in run.iterdir()}
    broken_run(run, monkeypatch, 1, overwrite=True, lr=0.5)  # ahead of its first saved state
    assert {path.name for path in run.iterdir()} == held
    assert (run / "training_state.pt").read_bytes() == before
    assert json.loads((run / "config.json").read_text())["lr"] == 0.01
    broken_run(run, monkeypatch, 3, overwrite=True, lr=0.5)
    left = {path.name for path in run.iterdir()}
    new = {"config.json", "cut.json", "metrics.jsonl", "log.txt", "training_state.pt"}
    assert left == {*new, "notes.txt", ".lock"}  # no result of the old run beside the settings of the new one
    assert json.loads((run / "config.json").read_text())["lr"] == 0.5


def test_a_run_that_was_killed_as_it_overwrote_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, kept = tmp_path / "run", tmp_path / "kept"
    train_toy(data="d", out=run)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "bring_back", lambda self: None)  # nobody can after SIGKILL
        broken_run(run, monkeypatch, 1, overwrite=True, lr=0.5)
    assert (run / ".replaced/training_state.pt").exists()
    for name in ("again", "resumed", "half"):
        copytree(run, tmp_path / name)
    train_toy(data="d", out=kept)
    with pytest.raises(FileExistsError, match="already holds a run"):
        train_toy(data="d", out=run)
    assert same(run, kept)
    train_toy(data="d", out=kept, overwrite=True, lr=0.5)
    train_toy(data="d", out=tmp_path / "again", overwrite=True, lr=0.5)
    train_toy(out=tmp_path / "resumed", resume=True)
    assert same(tmp_path / "again", kept)
    assert same(tmp_path / "resumed", kept)
    assert not list(tmp_path.glob("*/.replac*"))[1:]


def test_two_runs_in_one_new_folder(tmp_path: Path) -> None:
    import multiprocessing

    spawned = multiprocessing.get_context("spawn")
    queue, answer = spawned.Queue(), spawned.Queue()
    other = spawned.Process(target=_hold_until, args=(tmp_path / "run" / ".lock", queue, answer))
    other.start()
    try:
        assert queue.get(timeout=60) == "held"
        with pytest.raises(FileExistsError, match=r"another run is writing to .*; wait for it, or"):
            train_toy(data="d", out=tmp_path / "run")
    finally:
        answer.put("go")
        other.join()
    train_toy(data="d", out=tmp_path / "run")


def _hold_until(path: Path, queue: Any, answer: Any) -> None:
    with locked(path):
        queue.put("held")
        answer.get()


def test_parts_of_dead_writers_go(tmp_path: Path) -> None:
    for name in ("run/.training_state.pt.abc.part", "run/deep/.model.safetensors.x.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"half")
    train_toy(data="d", out=tmp_path / "run")
    assert list((tmp_path / "run").rglob(".*.part")) == []


def test_an_evaluation_that_was_due_is_made_on_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {
        "evaluate_every": 2,
        "evaluate_annotations": "labels.json",
        "evaluate_images": "pictures",
    }
    train_toy(data="d", out=tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr(ToyTask, "evaluate", lambda self, share: kill())
        with pytest.raises(SystemExit):
            train_toy(data="d", out=tmp_path / "run", **options)
    train_toy(out=tmp_path / "run", resume=True)
    found = {run: read_metrics(tmp_path / run, kind="evaluation") for run in ("whole", "run")}
    assert [record["step"] for record in found["run"]] == [2, 4, 6]
    assert [record["slope"] for record in found["run"]] == [record["slope"] for record in found["whole"]]
    assert same(tmp_path / "whole", tmp_path / "run")


class Poisoned(ToyTask):
    """Finite losses whose gradients are not."""

    def losses(self, model: nn.Module, batch: ToyBatch, step: Step) -> dict[str, Tensor]:
        terms = super().losses(model, batch, step)
        if step.number == 3:
            weight = next(model.parameters())
            terms["root"] = (weight - weight).abs().sqrt().sum()  # 0, with the slope 0 * inf
        return terms


def test_gradients_that_are_not_finite_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"norm of the gradients is nan at step 4, .*last saved state is kept"):
        train_toy(data="d", out=tmp_path / "run", task=Poisoned)
    state = torch.load(tmp_path / "run/training_state.pt", weights_only=True)
    assert state["step"] == 2
    assert all(bool(weight.isfinite().all()) for weight in state["learning"])


def test_a_last_step_without_finite_gradients_exports_nothing(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="norm of the gradients"):
        train_toy(data="d", out=tmp_path / "run", task=Poisoned, max_steps=4, save_every=0)
    assert not (tmp_path / "run/toy.pt").exists()
    assert not (tmp_path / "run/training_state.pt").exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(self: ToyTask) -> tuple[Tensor, ...]:
        return (torch.tensor([torch.inf]),)

    monkeypatch.setattr(ToyTask, "kept", spoil)
    with pytest.raises(FloatingPointError, match="weights are not finite after 2 steps and are not saved; no state"):
        train_toy(data="d", out=tmp_path / "run")


def test_a_loss_that_is_not_finite_names_the_images(tmp_path: Path) -> None:
    class Lost(ToyTask):
        def losses(self, model: nn.Module, batch: ToyBatch, step: Step) -> dict[str, Tensor]:
            return {name: term * torch.nan for name, term in super().losses(model, batch, step).items()}

    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 1, on \d\.png, .*; no state was saved"):
        train_toy(data="d", out=tmp_path / "run", task=Lost)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"clip_norm": -1}, r"clip_norm=-1\.0 must be a number above 0", id="ascent"),
        pytest.param({"clip_norm": 0}, r"clip_norm=0\.0 must be a number above 0", id="no-norm"),
        pytest.param({"clip_norm": float("nan")}, "clip_norm=nan must be a number above 0", id="nan-norm"),
        pytest.param({"max_steps": 0}, "max_steps=0 must be at least 1", id="no-steps"),
        pytest.param({"epochs": float("nan")}, "epochs=nan must be a number above 0", id="nan-epochs"),
        pytest.param({"epochs": -1}, "epochs=-1", id="epochs"),
        pytest.param({"lr": 0}, r"lr=0\.0 must be a number above 0", id="lr"),
        pytest.param({"lr": float("inf")}, "lr=inf must be a number above 0", id="inf-lr"),
        pytest.param({"save_every": -1}, "save_every=-1 must be a number of at least 0", id="save"),
        pytest.param({"workers": -1}, "workers=-1", id="workers"),
        pytest.param({"flip": float("-inf")}, r"flip=-inf is not in \[0, 1\]", id="flip"),
        pytest.param({"betas": (0.9, 1.0)}, r"betas=\(0\.9, 1\.0\) are not in \[0, 1\)", id="betas"),
        pytest.param({"eps": 0}, "eps=0", id="eps"),
        pytest.param({"weight_decay": -0.1}, "weight_decay=-0.1", id="decay"),
        pytest.param({"seed": 10**20}, "seed=100000000000000000000 must be below", id="seed"),
        pytest.param({"accumulate": 0}, "accumulate=0 must be at least 1", id="accumulate"),
        pytest.param({"evaluate_limit": 0}, "evaluate_limit=0 must be at least 1", id="limit"),
        pytest.param({"evaluate_every": 2}, "evaluate_every needs evaluate_annotations", id="evaluation"),
        pytest.param({"drop_epochs": (1,)}, "drop_epochs belong to schedule='constant'", id="drops"),
        pytest.param({"drop_steps": (1,)}, "drop_steps belong to schedule='constant'", id="drops-by-steps"),
        pytest.param(
            {"drop_epochs": (1,), "drop_steps": (1,), "schedule": "constant"}, "say the same thing twice", id="both"
        ),
        pytest.param({"points": 0}, "points=0 must be at least 1", id="own"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_toy(data="d", out="nowhere", **changes)
    assert not Path("nowhere").exists()


def test_a_run_in_which_nothing_learns_is_refused(tmp_path: Path) -> None:
    class Still(ToyTask):
        def parameter_groups(self) -> list[dict[str, Any]]:
            return [{"params": []}]

    with pytest.raises(ValueError, match="no weight learns with these settings; let at least one block"):
        train_toy(data="d", out=tmp_path / "run", task=Still)
