"""DenseRC: it begins as CLIPSelf, its gates learn at their own rate, and what it saves reads by them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.distill import batch_of, learning, losses_of, reached
from tests.support.pictures import draw_pictures
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip, tiny_resnet_clip

from clipself.backbones.export import save_clip
from clipself.backbones.gates import plain_gates, set_gates
from clipself.backbones.loading import load_clip
from clipself.distillation.clipself import ClipSelf
from clipself.distillation.denserc.model import DenseRc
from clipself.distillation.denserc.settings import DensercSettings
from clipself.distillation.train import distill


def test_the_first_step_is_clipselfs() -> None:
    batch = batch_of((1, 2), (2, 2))
    method = DenseRc(tiny_openai_clip(layers=3), settings=DensercSettings())
    assert method.student.gates is not None
    assert method.student.gates.tolist() == [[0, 0], [0, 0], [1, 1]]
    assert method.teacher.gates is None
    plain = ClipSelf(tiny_openai_clip(layers=3))
    assert losses_of(method, batch)["distance"].item() == pytest.approx(losses_of(plain, batch)["distance"].item())


@pytest.mark.parametrize("make", [tiny_openai_clip, tiny_eva_clip])
@pytest.mark.parametrize("blocks", [1, 2, None])
def test_gates_learn_beside_the_blocks(make: Any, blocks: int | None) -> None:
    clip = make()
    batch = batch_of((1, 2), size=(2 * clip.patch_size, 3 * clip.patch_size), crop=clip.image_size[0])
    method = DenseRc(clip, settings=DensercSettings(blocks=blocks))
    names = reached(method, batch)
    assert names == learning(method)
    assert "clip.gates" in names
    gates = method.student.gates
    assert gates is not None
    assert gates.grad is not None
    assert bool((gates.grad.abs() > 0).all())  # of each head of each block
    assert all("blocks" in name or name == "clip.gates" for name in names)


def test_gates_alone_can_learn_at_a_rate_of_their_own() -> None:
    method = DenseRc(tiny_openai_clip(), settings=DensercSettings(gate_rate=7.0), trainable_blocks=0)
    assert learning(method) == {"clip.gates"}
    both = DenseRc(tiny_openai_clip(), settings=DensercSettings(gate_rate=7.0))
    groups = both.groups(weight_decay=0.1)
    assert groups[-1] == {"params": [both.student.gates], "weight_decay": 0.0, "lr_scale": 7.0}
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in both.learning)


def test_a_run_moves_the_gates_and_its_exports_read_by_them(tmp_path: Path) -> None:
    model = save_clip(tiny_openai_clip(layers=3), tmp_path / "model")
    settings: dict[str, Any] = {
        "data": draw_pictures(tmp_path / "pictures", 8), "model": str(model), "image_size": 64, "max_steps": 12,
        "batch_size": 4, "lr": 1e-3, "workers": 0, "precision": "fp32", "max_regions": 6, "flip": 0.0, "alpha": 0.5,
        "keep_image": 1.0, "keep_crops": 0.0,
    }  # fmt: skip
    result = distill(out=tmp_path / "run", method={"method": "denserc", "blocks": 2}, **settings)
    assert result.last_loss < result.first_loss
    student, blended = load_clip(result.student), load_clip(result.blended)
    assert student.gates is not None
    assert blended.gates is not None
    moved = (student.gates - plain_gates(2, 2)).abs()
    assert bool((moved > 0.01).all())
    torch.testing.assert_close(blended.gates, (student.gates + plain_gates(2, 2)) / 2)
    images, read = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), student.copy()
    set_gates(read, None)
    with torch.no_grad():
        assert (student.dense_map(images) - read.dense_map(images)).abs().max() > 1e-3
    # a later run goes on from them
    again = distill(
        out=tmp_path / "again", method="denserc", student=result.student, **{**settings, "lr": 1e-12, "max_steps": 1}
    )
    kept = load_clip(again.student).gates
    assert kept is not None
    torch.testing.assert_close(kept, student.gates)


def test_what_cannot_be_read_so_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="DenseRC needs a trunk of transformer blocks"):
        DenseRc(tiny_resnet_clip(), settings=DensercSettings())
    with pytest.raises(
        ValueError, match="DenseRC reads each token's own values, and readout 'qq' mixes tokens; use 'value'"
    ):
        DenseRc(tiny_openai_clip(), settings=DensercSettings(), readout="qq")
    with pytest.raises(ValueError, match=r"method.blocks=3 does not fit tiny-openai, which has 2 blocks"):
        DenseRc(tiny_openai_clip(), settings=DensercSettings(blocks=3))
    gated = tiny_openai_clip()
    set_gates(gated, plain_gates(2, 2))
    with pytest.raises(ValueError, match=r"method.blocks=1 does not fit tiny-openai, which has gates of 2 blocks"):
        DenseRc(tiny_openai_clip(), student=gated, settings=DensercSettings(blocks=1))
