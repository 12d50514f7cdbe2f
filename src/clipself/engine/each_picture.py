"""Gradients of pictures one by one: each is clipped before they are added up, so that no picture outweighs the others.

Source: OWL-ViT (arXiv:2205.06230, appendix A1.4), which clips the gradient of every example to norm 1 and averages.
"""

from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from clipself.engine.distributed import World


@runtime_checkable
class Divisible(Protocol):
    """A batch that can be taken apart."""

    def apart(self) -> list[Self]:
        """Its pictures as batches of one."""


class EachPicture:
    """Collects the clipped gradients of the pictures of a step.

    Each process clips its own pictures, and their sums are added over the processes at the end of the step: what two
    processes take is what one takes of twice as many pictures. The wrapper's own averaging is not used.

    Args:
        learning: Parameters that learn.
        limit: Largest norm of the gradient of a picture, were it alone in the step.
        pictures: Pictures of the step, over all processes.
        world: This process among its peers.
        scale: Factor of the loss beside the number of processes, such as float16's.
    """

    def __init__(
        self, learning: Sequence[nn.Parameter], *, limit: float, pictures: int, world: World, scale: float = 1.0
    ) -> None:
        self.learning, self.world = learning, world
        self.limit = limit * world.size * scale / pictures
        self.sums = [torch.zeros_like(parameter) for parameter in learning]

    def take(self) -> None:
        """Moves the gradient of one picture from the parameters to the sums."""
        held = [(total, one.grad) for total, one in zip(self.sums, self.learning, strict=True) if one.grad is not None]
        norm = torch.stack([gradient.norm() for _, gradient in held]).norm()
        factor = (self.limit / norm.clamp(min=1e-12)).clamp(max=1.0)
        for total, gradient in held:
            total += gradient * factor
        for parameter in self.learning:
            parameter.grad = None

    def give(self) -> None:
        """Puts the sums into the parameters, averaged over the processes as the wrapper does it."""
        joined: Tensor = self.world.sum(torch.cat([total.flatten() for total in self.sums])) / self.world.size
        lengths = [total.numel() for total in self.sums]
        for parameter, part in zip(self.learning, torch.split(joined, lengths), strict=True):
            parameter.grad = part.view_as(parameter)


def take_apart(batch: object) -> list[object]:
    """The pictures of a batch as batches of one.

    Raises:
        ValueError: This kind of batch cannot be taken apart.
    """
    if not isinstance(batch, Divisible):
        raise ValueError(
            f"clip_each needs pictures one by one, and a {type(batch).__name__} cannot be taken apart; use clip_norm"
        )
    return list(batch.apart())
