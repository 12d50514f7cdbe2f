"""Gradients clipped picture by picture, against autograd on each picture alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.processes import in_two_processes
from torch import nn

from clipself.engine.distributed import World, join_world
from clipself.engine.each_picture import EachPicture, take_apart

LIMIT = 0.5


def model_of() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


PICTURES = torch.randn(4, 3, generator=torch.Generator().manual_seed(5)) * torch.tensor([[0.1], [1.0], [5.0], [2.0]])


def in_loops() -> list[torch.Tensor]:
    """The mean over pictures of g * min(1, limit / |g|)."""
    model = model_of()
    total = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for picture in PICTURES:
        gradients = torch.autograd.grad(model(picture).square().sum(), list(model.parameters()))
        norm = sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5
        for summed, gradient in zip(total, gradients, strict=True):
            summed += gradient * min(1.0, LIMIT / norm) / len(PICTURES)
    return total


def collect(pictures: torch.Tensor, world: World, *, scale: float = 1.0) -> list[torch.Tensor]:
    """As the loop does it: the loss of a step is the mean over its pictures, times what the wrapper divides by."""
    model = model_of()
    learning = list(model.parameters())
    each = EachPicture(learning, limit=LIMIT, pictures=len(PICTURES), world=world, scale=scale)
    for picture in pictures:
        share = model(picture).square().sum() / len(PICTURES)
        (share * world.size * scale).backward()
        each.take()
    each.give()
    return [parameter.grad / scale for parameter in learning if parameter.grad is not None]


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_it_is_the_mean_of_the_clipped_gradients(scale: float) -> None:
    alone = World(rank=0, size=1, device=torch.device("cpu"))
    for ours, wanted in zip(collect(PICTURES, alone, scale=scale), in_loops(), strict=True):
        torch.testing.assert_close(ours, wanted)


def _half(folder: str) -> None:
    with join_world(torch.device("cpu")) as world:
        torch.save(collect(PICTURES[2 * world.rank : 2 * world.rank + 2], world), f"{folder}/{world.rank}.pt")


def test_two_processes_are_one_with_all_pictures(tmp_path: Path) -> None:
    in_two_processes(_half, str(tmp_path))
    for rank in range(2):
        held: list[Any] = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for ours, wanted in zip(held, in_loops(), strict=True):
            torch.testing.assert_close(ours, wanted)


def test_batches_that_cannot_be_taken_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="a dict cannot be taken apart; use clip_norm"):
        take_apart({})
