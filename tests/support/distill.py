"""Batches and steps of self-distillation, for methods that are looked at without a run."""

import torch

from clipself.distillation.clipself import ClipSelf
from clipself.engine.distributed import World
from clipself.engine.step import Step
from clipself.ops.grids import grid_boxes
from clipself.structures import DistillBatch


def batch_of(*grids: tuple[int, int], size: tuple[int, int] = (32, 48), crop: int = 32) -> DistillBatch:
    """Noise within what pixels can be, with the cells of a grid of each image as its regions."""
    generator, boxes = torch.Generator().manual_seed(0), tuple(grid_boxes(*grid) for grid in grids)
    return DistillBatch(
        images_B3HW=2 * torch.rand(len(grids), 3, *size, generator=generator) - 1,
        boxes_norm=boxes,
        crops_R3hw=2 * torch.rand(sum(map(len, boxes)), 3, crop, crop, generator=generator) - 1,
        names=tuple(str(place) for place in range(len(grids))),
    )


def step_of(method: ClipSelf, batch: DistillBatch) -> Step:
    """The only step of one process with this batch."""
    totals = {name: torch.tensor(count) for name, count in method.counts(batch).items()}
    return Step(number=0, seed=0, totals=totals, world=World(rank=0, size=1, device=torch.device("cpu")))


def losses_of(method: ClipSelf, batch: DistillBatch) -> dict[str, torch.Tensor]:
    """The terms of that step."""
    return method.losses(method.model, batch, step_of(method, batch))


def moved(method: ClipSelf, *, by: float = 0.05) -> None:
    """Moves the student away from its teacher."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in method.learning:
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))


def reached(method: ClipSelf, batch: DistillBatch) -> set[str]:
    """Names of the parameters that a backward pass gives a gradient."""
    torch.stack(list(losses_of(method, batch).values())).sum().backward()  # type: ignore[no-untyped-call]
    return {name for name, parameter in method.model.named_parameters() if parameter.grad is not None}


def learning(method: ClipSelf) -> set[str]:
    """Names of the parameters that are handed to the optimizer."""
    chosen = {id(parameter) for parameter in method.learning}
    return {name for name, parameter in method.model.named_parameters() if id(parameter) in chosen}
