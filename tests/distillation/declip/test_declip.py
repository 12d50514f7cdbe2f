"""DeCLIP: its context is the formula on the stock block's own weights, and reaches what the paper says."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.support.distill import batch_of, learning, losses_of, moved, reached
from tests.support.pictures import draw_pictures
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip, tiny_resnet_clip
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import save_clip
from clipself.distillation.clipself import ClipSelf
from clipself.distillation.config import DistillConfig
from clipself.distillation.declip.model import DeClip
from clipself.distillation.declip.settings import DeclipSettings
from clipself.distillation.train import distill
from clipself.engine.config import located, shareable


@dataclass
class FakeGuide:
    """Says what it was asked, and fixed noise."""

    name: str = "fake"
    stride: int = 8
    asked: list[Tensor] = field(default_factory=list)

    def __call__(self, images_N3HW: Tensor, *, grid: tuple[int, int] | None = None) -> Tensor:
        assert grid is not None
        self.asked.append(images_N3HW)
        noise = torch.randn(len(images_N3HW), 5, *grid, generator=torch.Generator().manual_seed(4))
        return F.normalize(noise, dim=1)


def declip_of(clip: DenseCLIP, guide: Any, **settings: Any) -> DeClip:
    method = DeClip(clip, settings=DeclipSettings(**settings))
    method.guide = guide
    return method


def cosines(rows: list[list[float]]) -> list[list[float]]:
    return [
        [sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b)) for b in rows] for a in rows
    ]


@pytest.mark.parametrize("context", ["queries", "queries+keys"])
def test_the_context_is_the_paper_spelled_out(context: Any) -> None:
    guide, batch = FakeGuide(), batch_of((1, 2), (2, 2))
    method = declip_of(tiny_openai_clip(1), guide, context=context, context_weight=0.5)
    moved(method)
    terms = losses_of(method, batch)
    visual: Any = method.student.clip.visual
    with torch.no_grad():  # the stock tower by hand, up to its last block
        patches = visual.conv1(batch.images_B3HW).flatten(2).mT
        positions = method.student.trunk.positions(visual.positional_embedding, (4, 6))  # type: ignore[attr-defined]
        ahead = visual.class_embedding.expand(2, 1, -1)
        tokens = visual.transformer.resblocks[0](visual.ln_pre(torch.cat([ahead, patches], dim=1) + positions))
        last = visual.transformer.resblocks[1]
        weights, biases = last.attn.in_proj_weight.split(64), last.attn.in_proj_bias.split(64)
        normed = last.ln_1(tokens)[:, 1:]
        parts = [normed @ weights[place].T + biases[place] for place in range(2 if "keys" in context else 1)]
    total = 0.0
    wanted = FakeGuide()(batch.images_B3HW, grid=(4, 6)).flatten(2).mT
    for image in range(2):
        told = cosines(wanted[image].tolist())
        each = [cosines(part[image].tolist()) for part in parts]
        for row in range(24):
            mine = [sum(one[row][col] for one in each) / len(each) for col in range(24)]
            total += math.sqrt(sum((a - b) ** 2 for a, b in zip(mine, told[row], strict=True)))
    assert terms["context"].item() == pytest.approx(0.5 * total / 48, rel=1e-4)
    plain = ClipSelf(method.teacher, student=method.student)
    assert terms["distance"].item() == pytest.approx(losses_of(plain, batch)["distance"].item())


def test_the_guide_sees_plain_pixels() -> None:
    guide, batch = FakeGuide(), batch_of((1, 2))
    losses_of(declip_of(clip := tiny_openai_clip(), guide), batch)
    (seen,) = guide.asked
    for channel in range(3):
        undone = batch.images_B3HW[:, channel] * clip.image_std[channel] + clip.image_mean[channel]
        torch.testing.assert_close(seen[:, channel], undone.clamp(0, 1))


@pytest.mark.parametrize("make", [tiny_openai_clip, tiny_eva_clip])
@pytest.mark.parametrize("context", ["queries", "queries+keys"])
def test_exactly_what_is_read_learns(make: Any, context: Any) -> None:
    clip = make()
    size = (4 * clip.patch_size, 6 * clip.patch_size)
    batch = batch_of((1, 2), size=size, crop=clip.image_size[0])
    method = declip_of(clip, FakeGuide(), context=context)
    names = reached(method, batch)
    assert names == learning(method)
    if make is tiny_eva_clip:  # query and key matrices are parameters of their own
        last = f"blocks.{len(clip.trunk.parts) - 1}.attn"
        assert any(f"{last}.q_proj.weight" in name for name in names)
        assert any(f"{last}.k_proj.weight" in name for name in names) == ("keys" in context)
    frozen = {name for name, _ in method.model.named_parameters()} - names
    assert all("visual" not in name or "blocks" not in name or "k_proj" in name for name in frozen)


def test_the_clip_itself_is_the_guide_that_needs_no_other_weights() -> None:
    clip, batch = tiny_openai_clip(), batch_of((1, 2))
    method = DeClip(clip, settings=DeclipSettings())
    tap = F.normalize(clip.taps(batch.images_B3HW, [0])[0], dim=1)
    torch.testing.assert_close(method.guide(method.plain_pixels(batch), grid=(4, 6)), tap, atol=1e-4, rtol=1e-4)
    before = method.guide(method.plain_pixels(batch))
    moved(method)
    assert torch.equal(method.guide(method.plain_pixels(batch)), before)  # it is the teacher that guides


def test_a_tower_without_blocks_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="DeCLIP needs a trunk of transformer blocks with a class token"):
        DeClip(tiny_resnet_clip(), settings=DeclipSettings())
    with pytest.raises(ValueError, match="unknown guide 'dino'; expected 'clip', 'timm:NAME'"):
        DeClip(tiny_openai_clip(), settings=DeclipSettings(guide="dino"))


def test_a_run_learns_the_context_and_holds_its_guide(tmp_path: Path) -> None:
    model = save_clip(tiny_openai_clip(), tmp_path / "model")
    settings: dict[str, Any] = {
        "data": draw_pictures(tmp_path / "pictures", 4), "model": str(model), "image_size": 64, "max_steps": 12,
        "batch_size": 4, "lr": 3e-3, "workers": 0, "precision": "fp32", "max_split": 2, "flip": 0.0, "keep_image": 0.0,
    }  # fmt: skip
    result = distill(out=tmp_path / "run", method={"method": "declip", "context_weight": 1.0}, **settings)
    assert result.last_loss < 0.8 * result.first_loss
    with pytest.raises(ValueError, match=r"method.context_weight was 1.0 and is 0.5"):
        distill(
            out=tmp_path / "run", resume=True, method={"method": "declip", "context_weight": 0.5},
            **{**settings, "max_steps": 13},
        )  # fmt: skip


def test_paths_of_a_guide_hold_from_anywhere_and_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dino.pth").touch()
    Path("dino").mkdir()
    Path("clip").mkdir()
    for guide, there, told in (
        ("timm:vit@dino.pth", f"timm:vit@{tmp_path}/dino.pth", "timm:vit@dino.pth"),
        ("hf:dino", f"hf:{tmp_path}/dino", "hf:dino"),
        ("dino", f"{tmp_path}/dino", "dino"),
        ("timm:vit_small_patch14_dinov2", "timm:vit_small_patch14_dinov2", "timm:vit_small_patch14_dinov2"),
        ("clip", "clip", "clip"),
    ):
        config = DistillConfig(data=Path("a"), out=Path("b"), method=DeclipSettings(guide=guide))
        held = located(config)["method"]
        assert held["guide"] == there
        assert shareable(DistillConfig(data=Path("a"), out=Path("b"), method=DeclipSettings(**{
            name: value for name, value in held.items() if name != "method"
        })))["method"]["guide"] == told  # fmt: skip
