"""Heads on pooled regions and on pyramid maps; they know shapes, not tasks."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.layers.norms import ConvNorm


class AnchorHead(nn.Module):
    """Shared convolutions, then one score and four deltas for each anchor of a cell.

    Source: Faster R-CNN (arXiv:1506.01497), Sec. 3.1.

    Args:
        channels: Of the maps.
        convs: 3x3 convolutions.
        anchors: Of a cell.
        norm: Row of `NORMS`.
    """

    def __init__(self, *, channels: int, convs: int, anchors: int, norm: str) -> None:
        super().__init__()
        self.tower = nn.Sequential(
            *[ConvNorm(channels, channels, kernel=3, norm=norm, relu=True) for _ in range(convs)]
        )
        self.score = nn.Conv2d(channels, anchors, 1)
        self.deltas = nn.Conv2d(channels, 4 * anchors, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (B, C, Y, X) -> for each its logits (B, Y * X * A) and deltas (B, Y * X * A, 4)."""
        logits, deltas = [], []
        for level in maps:
            features = self.tower(level)
            logits.append(self.score(features).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.deltas(features).permute(0, 2, 3, 1).reshape(features.shape[0], -1, 4))
        return logits, deltas


class RegionHead(nn.Module):
    """Shared convolutions and layers, then one layer with ReLU for an embedding and one for four deltas.

    Source: F-ViT (CLIPSelf, detection): 4 convolutions, 2 shared layers; the embedding is taken after its ReLU, so
    that it is not negative; regression is class-agnostic.

    Args:
        channels: Of the pooled regions.
        bins: Side of the pooled regions.
        convs: 3x3 convolutions.
        layers: Shared fully connected layers.
        width: Of the layers.
        embed_dim: Of the embedding; the published heads have the width of the joint space everywhere.
        norm: Row of `NORMS`.
        signed: Whether the embedding's ReLU is left out, so that it can point anywhere.
    """

    def __init__(
        self, *, channels: int, bins: int, convs: int, layers: int, width: int, embed_dim: int, norm: str,
        signed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.convs = nn.Sequential(
            *[ConvNorm(channels, channels, kernel=3, norm=norm, relu=True) for _ in range(convs)]
        )
        inputs = [channels * bins * bins, *[width] * layers]
        self.shared = nn.ModuleList([nn.Linear(inputs[place], width) for place in range(layers)])
        self.embed = nn.Linear(inputs[layers], embed_dim)
        self.locate = nn.Linear(inputs[layers], width)
        self.deltas = nn.Linear(width, 4)
        self.signed = signed
        for linear in (*self.shared, self.embed, self.locate):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, pooled_RCyx: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled regions -> embeddings (R, D) of any length, deltas (R, 4)."""
        hidden = self.hidden(pooled_RCyx)
        return self.embedding(hidden), self.deltas(F.relu(self.locate(hidden)))

    def hidden(self, pooled_RCyx: Tensor) -> Tensor:
        """What embedding and deltas share (R, width)."""
        hidden: Tensor = self.convs(pooled_RCyx).flatten(1)
        for layer in self.shared:
            hidden = F.relu(layer(hidden))
        return hidden

    def embedding(self, hidden: Tensor) -> Tensor:
        """(R, width) -> (R, D)."""
        embedding: Tensor = self.embed(hidden)
        return embedding if self.signed else F.relu(embedding)


class EmbeddingHead(RegionHead):
    """A region head without deltas, whose embedding can point anywhere.

    Args:
        sizes: As of `RegionHead`.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes, signed=True)
        del self.locate, self.deltas

    def forward(self, pooled_RCyx: Tensor) -> Tensor:  # type: ignore[override]
        """Pooled regions -> embeddings (R, D) of any length."""
        return self.embedding(self.hidden(pooled_RCyx))


class MaskHead(nn.Module):
    """Convolutions on pooled regions, a transposed one to twice their side, one mask for all classes.

    Source: Mask R-CNN (arXiv:1703.06870), Sec. 3, class-agnostic as in F-ViT.

    Args:
        channels: Of the pooled regions.
        convs: 3x3 convolutions.
        norm: Row of `NORMS`.
        width: Channels of the convolutions; those of the regions if not given.
    """

    def __init__(self, *, channels: int, convs: int, norm: str, width: int | None = None) -> None:
        super().__init__()
        widths = [channels, *[width or channels] * convs]
        self.convs = nn.Sequential(*[ConvNorm(*pair, kernel=3, norm=norm, relu=True) for pair in pairwise(widths)])
        self.upsample = nn.ConvTranspose2d(widths[-1], widths[-1], 2, stride=2)
        self.logits = nn.Conv2d(widths[-1], 1, 1)
        for module in (self.upsample, self.logits):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            torch.nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, pooled_RCyx: Tensor) -> Tensor:
        """(R, C, y, x) -> mask logits (R, 2 y, 2 x)."""
        logits_R1yx: Tensor = self.logits(F.relu(self.upsample(self.convs(pooled_RCyx))))
        return logits_R1yx[:, 0]
