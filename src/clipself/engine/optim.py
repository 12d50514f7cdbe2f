"""Parameter groups and the learning rate of each step."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import torch
from torch import nn

from clipself.engine.config import RunConfig


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


def whole_group(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """One group: everything that learns decays, as most published detectors have it."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [{"params": learning, "weight_decay": weight_decay}]


def ramp(step: int, *, warmup_steps: int, start: float | None = None) -> float:
    """Share of the rate in a linear warm-up: (step + 1) / warm-up as open_clip has it, or from a start as Detectron2.

    Args:
        step: 0-based optimizer step.
        warmup_steps: Steps of the ramp.
        start: Share at the first step; one step of the ramp if not given.
    """
    if step >= warmup_steps:
        return 1.0
    if start is None:
        return (step + 1) / warmup_steps
    return start + (1 - start) * step / warmup_steps


def warmup_cosine(
    step: int, *, lr: float, warmup_steps: int, total_steps: int, warmup_start: float | None = None
) -> float:
    """Linear warm-up, then half a cosine to zero over the remaining steps.

    Source: open_clip's `cosine_lr`, as CLIPSelf uses it.

    Args:
        step: 0-based optimizer step.
        lr: Peak learning rate.
        warmup_steps: Steps of the ramp.
        total_steps: Steps of the whole run.
        warmup_start: See `ramp`.
    """
    if step < warmup_steps:
        return lr * ramp(step, warmup_steps=warmup_steps, start=warmup_start)
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * share)) * lr


def warmup_through(
    step: int, *, lr: float, warmup_steps: int, total_steps: int, warmup_start: float | None = None
) -> float:
    """Half a cosine to zero over the whole run, whose first steps are a straight line to where it is by then.

    Source: Detectron2's `WarmupCosineLR` in its present form: the line begins at the start's share of the full rate.
    """

    def fall(at: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * at / max(1, total_steps))) * lr

    if step >= warmup_steps:
        return fall(step)
    if warmup_start is None:
        return ramp(step, warmup_steps=warmup_steps) * fall(warmup_steps)
    share = step / warmup_steps
    return (1 - share) * warmup_start * lr + share * fall(warmup_steps)


def warmup_constant(
    step: int, *, lr: float, warmup_steps: int, total_steps: int, warmup_start: float | None = None,
    drops: Sequence[int] = (),
) -> float:  # fmt: skip
    """Linear warm-up, then a rate that falls to a tenth at each of the `drops`, as detectors are trained.

    Args:
        step: 0-based optimizer step.
        lr: Peak learning rate.
        warmup_steps: Steps of the ramp.
        total_steps: Not needed; schedules share their signature.
        warmup_start: See `ramp`.
        drops: 0-based steps from which on the rate is a tenth of what it was.
    """
    del total_steps
    share = ramp(step, warmup_steps=warmup_steps, start=warmup_start)
    return lr * share * 0.1 ** sum(step >= drop for drop in drops)


def warmup_poly(
    step: int, *, lr: float, warmup_steps: int, total_steps: int, warmup_start: float | None = None, power: float = 0.9
) -> float:
    """Linear warm-up, then lr * (1 - step / total)^power, as DeepLab and SAN are trained."""
    share = ramp(step, warmup_steps=warmup_steps, start=warmup_start)
    return float(lr * share * (1 - step / total_steps) ** power)


class Schedule(Protocol):
    """Learning rate of a step."""

    def __call__(
        self, step: int, *, lr: float, warmup_steps: int, total_steps: int, warmup_start: float | None = None
    ) -> float:
        """The rate."""


SCHEDULES: Final[Mapping[str, Schedule]] = {
    "cosine": warmup_cosine,
    "cosine-through": warmup_through,
    "constant": warmup_constant,
    "poly": warmup_poly,
}
"""Schedule by name."""


def _adamw(groups: Any, config: RunConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)


def _adamw_fused(groups: Any, config: RunConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay, fused=True
    )


def _sgd(groups: Any, config: RunConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


OPTIMIZERS: Final[Mapping[str, Callable[[Any, RunConfig], torch.optim.Optimizer]]] = {
    "adamw": _adamw,
    "adamw-fused": _adamw_fused,
    "sgd": _sgd,
}
"""Optimizer by name, over a task's parameter groups; the fused one rounds otherwise, in a third of the time."""


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group the learning rate, times its own "lr_scale" where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
