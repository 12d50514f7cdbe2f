"""Parameter groups and the learning rate of each step."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import torch
from torch import nn


def decay_groups(parameters: Sequence[nn.Parameter], *, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: matrices decay, vectors and scalars (biases, norms, gains) do not.

    Source: open_clip and CLIPSelf training code; the rank of the tensor says the same there as the names do.
    """
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    groups: list[dict[str, object]] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def warmup_cosine(step: int, *, lr: float, warmup_steps: int, total_steps: int) -> float:
    """Linear warm-up lr * (step + 1) / warm-up, then half a cosine to zero over the remaining steps.

    Source: open_clip's `cosine_lr`, as CLIPSelf uses it.

    Args:
        step: 0-based optimizer step.
        lr: Peak learning rate.
        warmup_steps: Steps of the ramp.
        total_steps: Steps of the whole run.
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * share)) * lr


def warmup_constant(step: int, *, lr: float, warmup_steps: int, total_steps: int, drops: Sequence[int] = ()) -> float:
    """Linear warm-up, then a rate that falls to a tenth at each of the `drops`, as detectors are trained.

    Args:
        step: 0-based optimizer step.
        lr: Peak learning rate.
        warmup_steps: Steps of the ramp.
        total_steps: Not needed; schedules share their signature.
        drops: 0-based steps from which on the rate is a tenth of what it was.
    """
    del total_steps
    ramp = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return lr * ramp * 0.1 ** sum(step >= drop for drop in drops)


def warmup_poly(step: int, *, lr: float, warmup_steps: int, total_steps: int, power: float = 0.9) -> float:
    """Linear warm-up, then lr * (1 - step / total)^power, as DeepLab and SAN are trained."""
    ramp = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return float(lr * ramp * (1 - step / total_steps) ** power)


class Schedule(Protocol):
    """Learning rate of a step."""

    def __call__(self, step: int, *, lr: float, warmup_steps: int, total_steps: int) -> float:
        """The rate."""


SCHEDULES: Final[Mapping[str, Schedule]] = {
    "cosine": warmup_cosine,
    "constant": warmup_constant,
    "poly": warmup_poly,
}
"""Schedule by name."""


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group the learning rate, times its own "lr_scale" where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
