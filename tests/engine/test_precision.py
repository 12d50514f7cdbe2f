"""Number formats by name."""

import pytest
import torch

from clipself.engine import precision
from clipself.engine.precision import bf16_speed, make_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("knows_it", "speed", "expected"),
    [(True, 2.0, torch.bfloat16), (True, 0.5, None), (True, 1.0, None), (False, 2.0, None)],
)
def test_auto_takes_bfloat16_where_it_is_faster(
    knows_it: bool, speed: float, expected: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: knows_it)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(precision, "bf16_speed", lambda: speed)
    assert make_precision("auto", CPU).dtype is expected


def test_the_speed_is_measured_once_and_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    bf16_speed.cache_clear()
    speed = bf16_speed()
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 < speed < 100
    assert bf16_speed() == speed


def test_names() -> None:
    assert make_precision("fp32", CPU).dtype is None
    assert make_precision("bf16", CPU).dtype is torch.bfloat16
    with pytest.raises(ValueError, match="fp16 needs an accelerator"):
        make_precision("fp16", CPU)
    with pytest.raises(ValueError, match="precision"):
        make_precision("fp8", CPU)
