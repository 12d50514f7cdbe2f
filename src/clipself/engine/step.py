"""One optimizer step as losses see it: its number, its chance, and what the step counts over all processes."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clipself.engine.distributed import World
from clipself.text.printable import name_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Handed to every loss.

    Attributes:
        number: 0-based optimizer step.
        seed: The run's.
        totals: The task's counts of this step, summed over all micro-batches and all processes; float32.
        world: This process among its peers.
    """

    number: int
    seed: int
    totals: Mapping[str, Tensor]
    world: World

    def generator(self, *key: int | str) -> torch.Generator:
        """Chance of this step, on the CPU.

        Args:
            key: What the draw is for, such as ("points", name of the picture). It must not hold rank, worker or place
                in the batch: a picture then meets the same chance however the batch is cut.
        """
        return generator_of(self.seed, self.number, *key)


def generator_of(*key: int | str) -> torch.Generator:
    """A CPU generator whose stream follows from the key alone."""
    return torch.Generator().manual_seed(seed_of(*key))


def seed_of(*key: int | str) -> int:
    """A seed that follows from the key alone, in [0, 2**63)."""
    digest = hashlib.sha256(name_bytes("/".join(map(str, key)))).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def sum_counts(counts: Iterable[Mapping[str, Tensor | float]], world: World) -> dict[str, Tensor]:
    """The counts of some micro-batches, summed over them and over all processes.

    Args:
        counts: Numbers or vectors by name; the same names and lengths in each.
        world: This process among its peers.

    Returns:
        Float32 tensors on the world's device, of the shapes that came.
    """
    exact = torch.float32 if world.device.type == "mps" else torch.float64  # counts of pixels pass 2**24
    summed: dict[str, Tensor] = {}
    for one in counts:
        for name, value in one.items():
            here = torch.as_tensor(value).detach().to(world.device, exact)
            summed[name] = summed[name] + here if name in summed else here
    if not summed:
        return {}
    joined: Any = world.sum(torch.cat([value.reshape(-1) for value in summed.values()])).float()
    pieces = joined.split([value.numel() for value in summed.values()])
    return {name: piece.reshape(summed[name].shape) for name, piece in zip(summed, pieces, strict=True)}
