"""Checkpoints of the released OV-DETR, by its names."""

import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

TRUNK: Final = "backbone.0.body."
ALIAS: Final = re.compile(r"^transformer\.decoder\.(?=(?:bbox|class)_embed\.)")
"""Heads that the published decoder holds a second time."""
SHARED: Final = re.compile(r"^(class_embed|bbox_embed|feature_align)\.[1-9]\d*\.")
"""Heads of later layers, which are those of the first where boxes are not refined."""

DETECTOR: Final = "detr."
"""Ahead of the detector's names in a checkpoint with masks."""
MASKS: Final = ("bbox_attention.", "mask_head.")


def split_published(
    state: Mapping[str, Tensor], *, refine: bool = True, source: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors by published names -> those of `OvDetr`, and those of its trunk, each by their own names.

    Args:
        state: All tensors of the checkpoint.
        refine: Whether each layer has heads of its own.
        source: Where they come from, for messages.

    Raises:
        ValueError: What is held twice differs.
    """
    network: dict[str, Tensor] = {}
    trunk: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith(TRUNK):
            trunk[name.removeprefix(TRUNK)] = value
            continue
        own = ALIAS.sub("", name)
        if not refine:
            own = SHARED.sub(r"\1.0.", own)
        if own in network and not torch.equal(network[own], value):
            raise ValueError(
                f"{source}: {name} should be {own} once more and differs from it; the file is not what the released "
                "code writes"
            )
        network[own] = value
    return network, trunk


def without_masks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint of the second stage, a mask head on a frozen detector -> its detector; others as they are.

    The released mask head cannot be run as it was published; boxes do not depend on it.
    """
    inside = {name.removeprefix(DETECTOR): value for name, value in state.items() if name.startswith(DETECTOR)}
    spare = [name for name in state if not name.startswith((DETECTOR, *MASKS))]
    return dict(state) if not inside or spare else inside
