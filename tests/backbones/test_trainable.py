"""Which parameters learn, and that exactly these change."""

from typing import Any

import pytest
import torch
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip

from clipself.backbones.trainable import train_last_blocks


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_exactly_the_last_blocks_learn(blocks: int) -> None:
    clip = tiny_openai_clip()
    learning = {id(parameter) for parameter in train_last_blocks(clip.trunk, blocks)}
    expected = {id(p) for block in list(clip.trunk.blocks)[2 - blocks :] for p in block.parameters()}
    assert learning == expected
    assert {id(p) for p in clip.trunk.tower.parameters() if p.requires_grad} == learning


def test_parameters_that_the_value_path_never_reads_stay_frozen() -> None:
    clip = tiny_eva_clip()
    learning = {id(parameter) for parameter in train_last_blocks(clip.trunk, 3)}
    visual: Any = clip.clip.visual
    attention = visual.trunk.blocks[-1].attn
    idle = [attention.q_proj.weight, attention.q_proj.bias, attention.k_proj.weight]
    assert not learning & {id(p) for p in idle}
    assert len(learning) == sum(1 for p in clip.trunk.blocks.parameters()) - 3
    with_queries = train_last_blocks(clip.trunk, 3, readout="qk")
    assert len(with_queries) == sum(1 for p in clip.trunk.blocks.parameters())


def test_every_learning_parameter_receives_a_gradient() -> None:
    for clip in (tiny_openai_clip(), tiny_eva_clip()):
        for readout in ("value", "value-bare", "qq+kk"):
            clip.zero_grad()
            learning = train_last_blocks(clip.trunk, clip.trunk.depth, readout=readout)
            images = torch.randn(1, 3, *clip.image_size, generator=torch.Generator().manual_seed(0))
            clip.dense_map(images, readout=readout).pow(3).sum().backward()  # type: ignore[no-untyped-call]
            assert all(parameter.grad is not None for parameter in learning), readout


def test_one_step_changes_exactly_the_learning_parameters() -> None:
    clip = tiny_openai_clip()
    before = {name: p.clone() for name, p in clip.named_parameters()}
    learning = train_last_blocks(clip.trunk, 1)
    optimizer = torch.optim.AdamW(learning, lr=0.1)
    clip.dense_map(torch.randn(1, 3, 32, 32)).pow(3).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    changed = {name for name, p in clip.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if "visual.transformer.resblocks.1." in name}


@pytest.mark.parametrize("blocks", [-1, 3])
def test_blocks_outside_the_trunk(blocks: int) -> None:
    with pytest.raises(ValueError, match=f"cannot train the last {blocks} blocks of a trunk of 2; choose 0 to 2"):
        train_last_blocks(tiny_openai_clip().trunk, blocks)
