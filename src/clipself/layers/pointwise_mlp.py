"""Linear layers with ReLU between them, along the last axis or along the channels of a map."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class PointwiseMLP(nn.Module):
    """An MLP for rows (..., C) or for every cell of maps (B, C, Y, X), by the published names of SAN.

    Args:
        widths: Of the input, the hidden layers and the output.
        maps: Whether it runs on maps, as 1 x 1 convolutions.
    """

    def __init__(self, *widths: int, maps: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(*pair, kernel_size=1) if maps else nn.Linear(*pair) for pair in pairwise(widths)
        )

    def forward(self, values: Tensor) -> Tensor:
        """Maps every row or cell by itself."""
        for layer in self.layers[:-1]:
            values = F.relu(layer(values))
        last: Tensor = self.layers[-1](values)
        return last
