"""TensorBoard shows what `metrics.jsonl` holds, over kills and evaluations too."""

from pathlib import Path
from typing import Any, Final

import pytest
from tests.support.training import act_at, kill, train_toy

from clipself.engine.log import read_metrics

EVALUATED: Final[dict[str, Any]] = {
    "evaluate_every": 3, "evaluate_annotations": "labels.json", "evaluate_images": "pictures", "track": "tensorboard",
}  # fmt: skip


def events(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Curve by name, as TensorBoard's own reader finds it."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    held = reader.EventAccumulator(str(out / "tensorboard")).Reload()
    return {tag: [(one.step, one.value) for one in held.Scalars(tag)] for tag in held.Tags()["scalars"]}


def logged(out: Path, kind: str, name: str) -> list[tuple[int, Any]]:
    return [(record["step"], pytest.approx(record[name], rel=1e-6)) for record in read_metrics(out, kind=kind)]


def test_every_number_of_the_log_is_a_curve(tmp_path: Path) -> None:
    train_toy(data="d", out=tmp_path / "run", **EVALUATED)
    found = events(tmp_path / "run")
    records = [*read_metrics(tmp_path / "run"), *read_metrics(tmp_path / "run", kind="evaluation")]
    names = {f"{one['kind']}/{name}" for one in records for name in one if name not in ("kind", "step", "time")}
    assert {"train/loss", "train/lr", "train/grad_norm", "train/items_error", "evaluation/slope"} <= names
    assert set(found) == names
    for tag in names:
        kind, name = tag.split("/")
        assert found[tag] == logged(tmp_path / "run", kind, name), tag
    assert [step for step, _ in found["evaluation/slope"]] == [3, 6]


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_run_that_was_killed_shows_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:

    with monkeypatch.context() as patch:
        act_at(patch, at, kill)
        with pytest.raises(SystemExit):
            train_toy(data="d", out=tmp_path / "run", **EVALUATED)
    train_toy(out=tmp_path / "run", resume=True)
    found = events(tmp_path / "run")
    assert [number for number, _ in found["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert found["train/loss"] == logged(tmp_path / "run", "train", "loss")
    assert found["evaluation/slope"] == logged(tmp_path / "run", "evaluation", "slope")


def test_overwriting_leaves_no_curve_of_the_old_run(tmp_path: Path) -> None:
    train_toy(data="d", out=tmp_path / "run", **EVALUATED)
    train_toy(data="d", out=tmp_path / "run", overwrite=True, max_steps=2, track=["tensorboard"])
    assert [number for number, _ in events(tmp_path / "run")["train/loss"]] == [1, 2]
    assert "evaluation/slope" not in events(tmp_path / "run")
