"""Training state, logs and files on a bad day."""

import errno
import json
from pathlib import Path

import pytest
import torch

from clipself.engine.checkpoint import load_state, save_state
from clipself.engine.log import RunLog, read_metrics
from clipself.engine.precision import make_precision
from clipself.files import write_text


def test_state_there_and_back(tmp_path: Path) -> None:
    save_state(tmp_path / "s.pt", {"step": 3, "learning": [torch.ones(2)]})
    state = load_state(tmp_path / "s.pt")
    assert state["step"] == 3
    assert torch.equal(state["learning"][0], torch.ones(2))


def test_damaged_and_foreign_states(tmp_path: Path) -> None:
    path = save_state(tmp_path / "s.pt", {"step": 3})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged"):
        load_state(path)
    torch.save({"w": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="not a training state of this package"):
        load_state(path)
    with pytest.raises(FileNotFoundError, match="no training state at"):
        load_state(tmp_path / "none.pt")


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "a.txt", "before")

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"no space left to write .*a\.txt .*what was there before is untouched"):
        write_text(path, "after")
    monkeypatch.undo()
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_resumed_log_forgets_what_came_after(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for step in (1, 2, 3):
        log.write("train", step, loss=1.0 / step)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "train", "st')  # killed in the middle of a line
    log.close()
    RunLog(tmp_path, start=2, resumed=True).close()
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2]
    assert all(json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())


def test_precisions_by_name() -> None:
    cpu = torch.device("cpu")
    assert make_precision("bf16", cpu).dtype is torch.bfloat16
    assert make_precision("fp32", cpu).dtype is None
    with pytest.raises(ValueError, match="fp16 needs an accelerator"):
        make_precision("fp16", cpu)
    with pytest.raises(ValueError, match="unknown precision 'fp64'"):
        make_precision("fp64", cpu)


def test_a_record_is_json_whatever_the_numbers(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write("train", 1, grad_norm=float("inf"), loss=0.5)
    log.close()
    assert "Infinity" not in (tmp_path / "metrics.jsonl").read_text()
    assert read_metrics(tmp_path)[0]["grad_norm"] is None
