"""Which weights decay: what every segmenter's parameter groups are made of."""

from collections.abc import Collection, Sequence
from typing import Any

from torch import nn


def norms_of(model: nn.Module) -> set[int]:
    """The identities of all parameters of norms, which never decay."""
    norms = (nn.LayerNorm, nn.GroupNorm)
    return {id(one) for module in model.modules() if isinstance(module, norms) for one in module.parameters()}


def decay_apart(
    parameters: Sequence[nn.Parameter], still: Collection[int], *, weight_decay: float, lr_scale: float = 1.0
) -> list[dict[str, Any]]:
    """AdamW's groups of some parameters: those that decay, and those that do not.

    Args:
        parameters: What learns.
        still: Identities (`id`) of parameters that do not decay.
        weight_decay: Of the others.
        lr_scale: Rate of all of them over that of the run.

    Returns:
        One or two groups; an empty one is left out.
    """
    decaying = [one for one in parameters if id(one) not in still]
    resting = [one for one in parameters if id(one) in still]
    return [
        {"params": some, "weight_decay": decay, "lr_scale": lr_scale}
        for some, decay in ((decaying, weight_decay), (resting, 0.0))
        if some
    ]
