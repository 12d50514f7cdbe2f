"""A readout beyond queries, keys and values of the last block, whole in this file: values of several blocks, averaged.

One line makes it known by name: `READOUTS["mean-values"] = MEAN_VALUES`.
"""

import torch
from torch import Tensor

from clipself.backbones.readouts import Readout, ReadoutContext

BLOCKS = 2
"""How many of the last blocks are asked."""


def mean_values(context: ReadoutContext, *, last_share: float = 0.5) -> Tensor:
    """The last block's own values, mixed with the mean of those of the blocks ahead, brighter images more."""
    ahead = torch.stack([context.heads("v", block=-place) for place in range(2, BLOCKS + 1)]).mean(0)
    gain = 1 + context.images_B3HW.mean((1, 2, 3)).sigmoid()
    return last_share * context.heads("v") + (1 - last_share) * gain[:, None, None, None] * ahead


MEAN_VALUES = Readout(mix=mean_values, residual=False, feed_forward=False, looks_back=BLOCKS)
