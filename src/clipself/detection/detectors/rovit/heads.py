"""Heads of RO-ViT's detector: one anchor a cell with a centreness, and boxes with an embedding.

Source: DITO (arXiv:2310.00161), released code, in its variant with layer norms.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from clipself.layers.norms import ChannelNorm

INPUT_SCALE = 20.0
"""Length of what the class projection is given."""


class CentrenessHead(nn.Module):
    """Convolutions shared by all levels, norms of each level's own, then one centreness and four sides a cell.

    Args:
        channels: Of the maps.
        convs: 3x3 convolutions.
        levels: How many maps there are.
        eps: Of the norms.
    """

    def __init__(self, *, channels: int, convs: int, levels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs)])
        self.norms = nn.ModuleList(
            nn.ModuleList([ChannelNorm(channels, eps=eps) for _ in range(convs)]) for _ in range(levels)
        )
        self.centreness, self.sides = nn.Conv2d(channels, 1, 1), nn.Conv2d(channels, 4, 1)
        for module in (*self.convs, self.centreness, self.sides):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        assert self.sides.bias is not None
        nn.init.constant_(self.sides.bias, 0.5)  # the anchor itself: boxes without area would never learn

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (B, C, Y, X) -> for each its logits (B, Y, X) and sides (B, Y, X, 4): left, right, top, bottom."""
        logits, sides = [], []
        for level, of_level in zip(maps, self.norms, strict=True):
            norms: Any = of_level
            for conv, norm in zip(self.convs, norms, strict=True):
                level = F.relu(norm(conv(level)))
            logits.append(self.centreness(level)[:, 0])
            sides.append(self.sides(level).permute(0, 2, 3, 1))
        return logits, sides


class CosineBoxHead(nn.Module):
    """Convolutions and layers with layer norms, then an embedding by a cosine layer and four deltas.

    Args:
        channels: Of the cropped regions.
        bins: Their side.
        convs: 3x3 convolutions.
        layers: Fully connected layers.
        width: Of those layers.
        embed_dim: Of the embedding.
        eps: Of the norms.
    """

    def __init__(
        self, *, channels: int, bins: int, convs: int, layers: int, width: int, embed_dim: int, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *[
                nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), ChannelNorm(channels, eps=eps), nn.ReLU())
                for _ in range(convs)
            ]
        )
        inputs = [channels * bins * bins, *[width] * layers]
        self.layers = nn.Sequential(
            *[
                nn.Sequential(nn.Linear(inputs[place], width), nn.LayerNorm(width, eps=eps), nn.ReLU())
                for place in range(layers)
            ]
        )
        self.embed = nn.Linear(inputs[layers], embed_dim, bias=False)
        self.deltas = nn.Linear(inputs[layers], 4)
        nn.init.normal_(self.embed.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, cropped_RCyx: Tensor) -> tuple[Tensor, Tensor]:
        """Cropped regions -> embeddings (R, D) of any length, deltas (R, 4) of x, y, width, height."""
        cells = self.convs(cropped_RCyx).permute(0, 2, 3, 1)  # channels last, as the published layers unroll them
        hidden: Tensor = self.layers(cells.flatten(1))
        embedding = F.linear(INPUT_SCALE * F.normalize(hidden, dim=1), F.normalize(self.embed.weight, dim=1))
        return embedding, self.deltas(hidden)
