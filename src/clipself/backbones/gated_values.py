"""The readout of a CLIP that has gates: values of several blocks, each head by its weight; see `backbones.gates`."""

from typing import Any

import torch
from torch import Tensor

from clipself.backbones.readout_context import ReadoutContext
from clipself.backbones.tokens import join_heads


def gated_values(context: ReadoutContext) -> Tensor:
    """What the values of the last K blocks add to each token (B, N, C), by the trunk's gates.

    The bias of an output projection belongs to no head; the last block's is added, as in every readout.

    Raises:
        ValueError: Not so many blocks can be looked back at, as where windows meet in the last block.
    """
    trunk: Any = context.trunk
    gates_Kh: Tensor = trunk.gates
    blocks = len(gates_Kh)
    if blocks > len(context.entered):
        raise ValueError(
            f"this model reads the values of its last {blocks} blocks (it has gates), and only {len(context.entered)} "
            "can be looked back at here; read it without stitched windows"
        )
    total = torch.zeros_like(context.tokens.tokens)
    for place, gates_h in zip(range(-blocks, 0), gates_Kh, strict=True):
        values_BhNd = context.heads("v", block=place)
        weights_C = gates_h.repeat_interleave(values_BhNd.shape[-1])
        values_BNC, block = join_heads(values_BhNd), trunk.blocks[place]
        merged = trunk.merge_gated(block, values_BNC, weights_C)
        if place < -1:
            merged = merged - trunk.merge_gated(block, values_BNC[:1, :1], torch.zeros_like(weights_C))
        total = total + merged
    return total
