"""Optimizers, the moving average and the limit of values, against loops that spell them out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.training import act_at, kill, train_toy, weights_of

from clipself.engine.checkpoint import load_state, save_state
from clipself.engine.loop import Loop
from clipself.engine.optim import ramp, warmup_constant

Trail = list[list[torch.Tensor]]


@pytest.fixture
def trail(monkeypatch: pytest.MonkeyPatch) -> tuple[Trail, Trail]:
    """What learns ahead of the first and after each step, and the gradients of each step."""
    weights: Trail = []
    gradients: Trail = []
    step, update = Loop._step, Loop._update

    def stepped(self: Any, model: Any, stream: Any, number: int, bar: Any) -> None:
        if not weights:
            weights.append([parameter.detach().clone() for parameter in self.learning])
        step(self, model, stream, number, bar)
        weights.append([parameter.detach().clone() for parameter in self.learning])

    def updated(self: Any, number: int, micro: Any) -> float:
        gradients.append([parameter.grad.clone() for parameter in self.learning])
        norm: float = update(self, number, micro)
        return norm

    monkeypatch.setattr(Loop, "_step", stepped)
    monkeypatch.setattr(Loop, "_update", updated)
    return weights, gradients


def test_sgd_with_momentum_and_decay_is_the_formula(tmp_path: Path, trail: tuple[Trail, Trail]) -> None:
    options: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.8, "weight_decay": 0.1, "clip_norm": None}
    train_toy(data="d", out=tmp_path / "run", schedule="constant", lr=0.01, **options)
    weights, gradients = trail
    for place, start in enumerate(weights[0]):
        decay = 0.1 if start.ndim >= 2 else 0.0
        value, velocity = start.clone(), torch.zeros_like(start)
        for number, moment in enumerate(gradients):
            velocity = 0.8 * velocity + moment[place] + decay * value
            value = value - 0.01 * velocity
            torch.testing.assert_close(weights[number + 1][place], value)


def test_large_values_of_gradients_are_cut(tmp_path: Path, trail: tuple[Trail, Trail]) -> None:
    options: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_norm": None}
    train_toy(data="d", out=tmp_path / "run", schedule="constant", lr=0.01, clip_value=0.05, **options)
    weights, gradients = trail
    assert max(float(gradient.abs().max()) for gradient in gradients[0]) > 0.05
    for place, start in enumerate(weights[0]):
        torch.testing.assert_close(weights[1][place], start - 0.01 * gradients[0][place].clamp(-0.05, 0.05))


def test_the_average_is_what_is_saved(tmp_path: Path, trail: tuple[Trail, Trail]) -> None:
    train_toy(data="d", out=tmp_path / "whole", ema=0.7)
    weights, _ = trail
    expected = [start.clone() for start in weights[0]]
    for after in weights[1:]:
        expected = [0.7 * held + 0.3 * now for held, now in zip(expected, after, strict=True)]
    saved = list(weights_of(tmp_path / "whole").values())
    for held, average in zip(saved, expected, strict=True):
        torch.testing.assert_close(held, average)
    state = load_state(tmp_path / "whole/training_state.pt")
    assert not torch.equal(state["average"][0], state["learning"][0])


def test_a_run_with_an_average_is_resumed_bit_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_toy(data="d", out=tmp_path / "whole", ema=0.7)

    with monkeypatch.context() as patch:
        act_at(patch, 4, kill)
        with pytest.raises(SystemExit):
            train_toy(data="d", out=tmp_path / "broken", ema=0.7)
    train_toy(out=tmp_path / "broken", resume=True)
    whole, broken = weights_of(tmp_path / "whole"), weights_of(tmp_path / "broken")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_state_without_settings_that_came_later_is_taken_up(tmp_path: Path) -> None:
    train_toy(data="d", out=tmp_path / "run")
    state = load_state(tmp_path / "run/training_state.pt")
    for name in ("optimizer", "momentum", "ema", "clip_value", "warmup_start"):
        del state["settings"][name]
    save_state(tmp_path / "run/training_state.pt", state)
    train_toy(out=tmp_path / "run", resume=True, max_steps=8)
    save_state(tmp_path / "run/training_state.pt", state)
    with pytest.raises(ValueError, match=r"momentum was 0\.9 and is 0\.5"):
        train_toy(out=tmp_path / "run", resume=True, max_steps=8, momentum=0.5)


def test_a_ramp_from_a_start_is_detectron2s() -> None:
    # factor = start * (1 - alpha) + alpha, alpha = step / warm-up
    for step in range(10):
        assert ramp(step, warmup_steps=10, start=0.001) == pytest.approx(0.001 * (1 - step / 10) + step / 10)
    assert ramp(10, warmup_steps=10, start=0.001) == 1.0
    assert warmup_constant(0, lr=0.02, warmup_steps=1000, total_steps=9, warmup_start=0.001) == pytest.approx(2e-5)
