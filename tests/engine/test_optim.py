import math
from pathlib import Path

import pytest
import torch
from torch import nn

from clipself.engine.config import RunConfig
from clipself.engine.optim import OPTIMIZERS, decay_groups, warmup_constant, warmup_cosine, warmup_through


def test_schedule_is_the_published_formula() -> None:
    rates = [warmup_cosine(step, lr=1e-5, warmup_steps=1000, total_steps=44358) for step in (0, 499, 999, 1000, 44357)]
    assert rates[0] == pytest.approx(1e-5 / 1000)
    assert rates[1] == pytest.approx(1e-5 * 500 / 1000)
    assert rates[2] == rates[3] == pytest.approx(1e-5)
    assert rates[4] == pytest.approx(0.5 * (1 + math.cos(math.pi * 43357 / 43358)) * 1e-5)


def test_only_matrices_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    groups = decay_groups(list(model.parameters()), weight_decay=0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert groups[0]["params"] == [model[0].weight]
    assert len(groups[1]["params"]) == 3  # type: ignore[arg-type]
    assert decay_groups([nn.Parameter(torch.zeros(2))], weight_decay=0.1)[0]["weight_decay"] == 0.0


def test_a_constant_rate_warms_up_and_drops() -> None:
    rates = [warmup_constant(step, lr=1.0, warmup_steps=4, total_steps=10, drops=(6, 8)) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert warmup_constant(0, lr=1.0, warmup_steps=0, total_steps=1) == 1.0


def test_a_warm_up_is_cut_to_a_tenth_unless_it_is_exact() -> None:
    from clipself.engine.run import rate_of
    from clipself.engine.state import Phase

    for exact, full in ((False, 2), (True, 10)):
        config = RunConfig(out=Path("x"), lr=1.0, schedule="constant", warmup_steps=10, exact_warmup=exact)
        rate = rate_of(config, Phase(start=0, end=20), per_epoch=5)
        rates = [rate(step) for step in range(20)]
        assert max(rates[: full - 1]) < 1.0
        assert rates[full:] == [1.0] * (20 - full)


def test_a_cosine_through_the_warm_up_meets_it_where_it_ends() -> None:
    def rate(step: int, start: float | None = 0.1) -> float:
        return warmup_through(step, lr=2.0, warmup_steps=4, total_steps=16, warmup_start=start)

    met = 1 + math.cos(math.pi / 4)
    assert [rate(0), rate(2), rate(4)] == pytest.approx([0.2, (0.2 + met) / 2, met])
    assert [rate(8), rate(16)] == pytest.approx([1.0, 0.0])
    assert rate(0, None) == pytest.approx(met / 4)


def test_the_fused_optimizer_takes_the_same_steps() -> None:
    weights = []
    for name in ("adamw", "adamw-fused"):
        torch.manual_seed(0)
        model = nn.Linear(40, 30)
        config = RunConfig(out=Path("x"), lr=1e-2, weight_decay=0.3)
        optimizer = OPTIMIZERS[name](decay_groups(list(model.parameters()), weight_decay=0.3), config)
        for _ in range(5):
            torch.autograd.backward(model(torch.randn(8, 40)).square().mean())
            optimizer.step()
            optimizer.zero_grad()
        weights.append(model.weight.detach())
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-5, atol=1e-6)
