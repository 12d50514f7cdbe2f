"""Which parameters learn, and that exactly these change."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.support.processes import in_two_processes
from tests.support.tiny import TINY, tiny_eva_clip, tiny_openai_clip

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.readouts import READOUTS, Readout, ReadoutContext
from clipself.backbones.trainable import train_last_blocks

Make = Callable[[], DenseCLIP]


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_exactly_the_last_blocks_learn(blocks: int) -> None:
    clip = tiny_openai_clip()
    learning = {id(parameter) for parameter in train_last_blocks(clip.trunk, blocks)}
    expected = {id(p) for block in list(clip.trunk.parts)[2 - blocks :] for p in block.parameters()}
    assert learning == expected
    assert {id(p) for p in clip.trunk.tower.parameters() if p.requires_grad} == learning


def test_parameters_that_the_value_path_never_reads_stay_frozen() -> None:
    clip = tiny_eva_clip()
    learning = {id(parameter) for parameter in train_last_blocks(clip.trunk, 3)}
    visual: Any = clip.clip.visual
    attention = visual.trunk.blocks[-1].attn
    idle = [attention.q_proj.weight, attention.q_proj.bias, attention.k_proj.weight]
    assert not learning & {id(p) for p in idle}
    total = sum(1 for part in clip.trunk.parts for _ in part.parameters())
    assert len(learning) == total - 3
    assert len(train_last_blocks(clip.trunk, 3, readout="qk")) == total


@pytest.mark.parametrize("readout", sorted(READOUTS))
@pytest.mark.parametrize("make", TINY.values(), ids=TINY)
def test_exactly_what_receives_a_gradient_learns(make: Make, readout: str) -> None:
    """On every family: nothing idle is handed out, which two processes would wait for, and nothing read is left."""
    clip = make()
    learning = train_last_blocks(clip.trunk, len(clip.trunk.parts), readout=readout)
    clip.trunk.tower.requires_grad_(True)
    images = torch.randn(1, 3, 2 * clip.patch_size, 3 * clip.patch_size, generator=torch.Generator().manual_seed(0))
    clip.dense_map(images, readout=readout).pow(3).sum().backward()  # type: ignore[no-untyped-call]
    reached = {id(p) for part in clip.trunk.parts for p in part.parameters() if p.grad is not None}
    assert {id(p) for p in learning} == reached


def test_a_readout_of_ones_own_tells_itself_what_it_leaves_idle() -> None:
    def values_of_two_blocks(context: ReadoutContext) -> torch.Tensor:
        return (context.heads("v") + context.heads("v", block=-2)) / 2

    clip = tiny_eva_clip()
    own = Readout(mix=values_of_two_blocks, residual=False, feed_forward=False, looks_back=2)
    visual: Any = clip.clip.visual
    last = visual.trunk.blocks[-1]
    learning = {id(parameter) for parameter in train_last_blocks(clip.trunk, 1, readout=own)}
    assert learning == {
        id(p) for module in (last.norm1, last.attn.v_proj, last.attn.norm, last.attn.proj) for p in module.parameters()
    }


def two_steps_of_every_readout(families: list[str]) -> None:
    """What distillation wraps for many processes, which refuses a second step where a parameter was left out."""
    for family in families:
        clip = TINY[family]()
        for readout in sorted(READOUTS):
            train_last_blocks(clip.trunk, len(clip.trunk.parts), readout=readout)
            wrapped = torch.nn.parallel.DistributedDataParallel(clip.train())
            images = torch.randn(1, 3, 2 * clip.patch_size, 3 * clip.patch_size)
            for _ in range(2):
                wrapped(images, readout=readout).pow(3).sum().backward()


@pytest.mark.parametrize(
    "families",
    [
        pytest.param(["eva"], id="one"),  # which leaves parameters idle by most readouts
        pytest.param(sorted(TINY), id="every", marks=pytest.mark.slow),
    ],
)
def test_every_readout_learns_on_two_processes(families: list[str]) -> None:
    """On every family what is handed out is what receives a gradient, as is asserted above."""
    in_two_processes(two_steps_of_every_readout, families)


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
