"""One process or many under `torchrun`: who am I, sums over all, gradients that truly synchronise."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

PATIENCE: Final = timedelta(hours=3)
"""How long processes wait for each other: one of them evaluates thousands of images while the others stand still."""

_BUFFERS: Final = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in signature(DistributedDataParallel).parameters
)
"""Buffers are equal in all processes already; newer versions of torch call the option by the first name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """This process among its peers.

    Attributes:
        rank: Number of this process, 0 to size - 1.
        size: How many processes there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and draws bars."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, on every one of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on at least one process."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor([float(flag)], device=self.device)).item())

    def every(self, value: T) -> list[T]:
        """What each process says, on all of them, by rank; anything that can be pickled."""
        if self.size == 1:
            return [value]
        held: list[Any] = [None] * self.size
        dist.all_gather_object(held, value)
        return held

    def agree(self, fault: Exception | None) -> None:
        """Raises the fault where it happened, and says on every other process that another one refused.

        Raises:
            Exception: The fault itself.
            ValueError: Another process has one.
        """
        elsewhere = self.any(fault is not None)
        if fault is not None:
            raise fault
        if elsewhere:
            raise ValueError("another process of this run has refused it; its message says why")

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, one process after another, on every one of them.

        Gradients flow back to where a row came from, summed over what all processes make of it.

        Args:
            rows: Of this process (n, ...); the others may have more or fewer.
        """
        gathered: Tensor = rows if self.size == 1 else _Gather.apply(rows, self)
        return gathered

    def wait(self) -> None:
        """Returns when every process is here."""
        if self.size > 1:
            dist.barrier()

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module whose backward pass averages gradients over the processes; call this one, never what it wraps."""
        if self.size == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        options: dict[str, Any] = {_BUFFERS: False}
        if self.device.type == "cuda":
            options["device_ids"] = [self.device]
        return DistributedDataParallel(module, **options)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        counts = torch.zeros(world.size, dtype=torch.long, device=rows.device)
        counts[world.rank] = len(rows)
        lengths = world.sum(counts).tolist()
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows
        held = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(held, padded)
        ctx.world, ctx.start = world, sum(lengths[: world.rank])
        ctx.length = len(rows)
        return torch.cat([part[:length] for part, length in zip(held, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed = ctx.world.sum(gradients[0].clone(memory_format=torch.contiguous_format))
        return summed[ctx.start : ctx.start + ctx.length], None


@contextmanager
def join_world(device: torch.device) -> Iterator[World]:
    """Joins the processes that `torchrun` started, or stands alone; leaves them at the end."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(rank=0, size=1, device=device)
        return
    mine = not dist.is_initialized()
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if mine:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), device=device)
    finally:
        if mine:
            dist.destroy_process_group()


@contextmanager
def delayed_sync(module: nn.Module, *, last: bool) -> Iterator[None]:
    """Skips the averaging of gradients for all but the last micro-batch of a step."""
    wrapped: Any = module
    if last or not isinstance(module, DistributedDataParallel):
        yield
    else:
        with wrapped.no_sync():
            yield
