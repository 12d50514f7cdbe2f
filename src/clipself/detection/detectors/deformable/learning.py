"""What of OV-DETR learns at which rate."""

from typing import Any, Final

from torch import nn

from clipself.layers.deformable_attention import DeformableAttention

SLOW: Final = 0.1
"""Rate of the trunk and of what says where to look, relative to the rest."""


def learning_groups(network: nn.Module, trunk: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Groups of AdamW: the rest, where queries look, and the trunk; everything decays.

    Source: OV-DETR, released code: 2e-4, and a tenth of it.
    """
    looking: list[Any] = [
        module.sampling_offsets for module in network.modules() if isinstance(module, DeformableAttention)
    ]
    looking += [module.reference_points for module in network.modules() if hasattr(module, "reference_points")]
    placed = {id(parameter): parameter for module in looking for parameter in module.parameters()}
    rest = [value for value in network.parameters() if value.requires_grad and id(value) not in placed]
    groups = [
        {"params": rest, "weight_decay": weight_decay},
        {"params": list(placed.values()), "weight_decay": weight_decay, "lr_scale": SLOW},
        {
            "params": [value for value in trunk.parameters() if value.requires_grad],
            "weight_decay": weight_decay, "lr_scale": SLOW,
        },
    ]  # fmt: skip
    return [group for group in groups if group["params"]]
