"""The pixel decoder of the Mask2Former family: deformable attention over three levels, one finer map on top."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.layers.deformable_attention import DeformableAttention, Grid
from clipself.layers.sine_positions import sine_positions

GROUPS = 32
"""Groups of every group norm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelFeatures:
    """What a masked decoder looks at.

    Attributes:
        mask_features: Map (B, C, Y, X) at the finest stride, multiplied with queries into masks.
        levels: Maps from coarse to fine, for cross-attention.
    """

    mask_features: Tensor
    levels: tuple[Tensor, ...]


class FeedForward(nn.Module):
    """What the layers here and in `deformable_transformer` share: two linear maps, dropout, a residual."""

    dropout: nn.Dropout
    linear1: nn.Linear
    linear2: nn.Linear

    def feed(self, tokens_BNC: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Tokens with what the maps make of them, normalised."""
        inside = self.dropout(F.relu(self.linear1(tokens_BNC)))
        fed: Tensor = norm(tokens_BNC + self.dropout(self.linear2(inside)))
        return fed


class DeformableLayer(FeedForward):
    """Deformable self-attention and feed-forward, norms after each.

    Args:
        channels: Width.
        heads: Attention heads.
        levels: Maps.
        points: Places on each map.
        hidden: Width inside the feed-forward.
        dropout: Share of what is added that is dropped in training.
    """

    def __init__(
        self, *, channels: int, heads: int, levels: int, points: int, hidden: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.self_attn = DeformableAttention(channels=channels, heads=heads, levels=levels, points=points)
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(
        self,
        tokens_BSC: Tensor,
        positions_BSC: Tensor,
        centres: Tensor,
        grids: Sequence[Grid],
        *,
        padding_BS: Tensor | None = None,
    ) -> Tensor:
        """One layer; positions steer where tokens look, values are free of them; see `DeformableAttention.forward`."""
        mixed = self.self_attn(tokens_BSC + positions_BSC, centres, tokens_BSC, grids, padding_BS=padding_BS)
        return self.feed(self.norm1(tokens_BSC + self.dropout(mixed)), self.norm2)


class DeformableStack(nn.Module):
    """Layers over the flattened levels, in the published nesting of names.

    Args:
        layers: How many.
        channels: Width.
        heads: Attention heads.
        levels: Maps.
        points: Places on each map.
        hidden: Width inside the feed-forward.
    """

    def __init__(self, *, layers: int, channels: int, heads: int, levels: int, points: int, hidden: int) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(levels, channels))
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(
            DeformableLayer(channels=channels, heads=heads, levels=levels, points=points, hidden=hidden)
            for _ in range(layers)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Mixes maps (B, C, Y, X) within and across levels; shapes stay."""
        grids: list[Grid] = [(one.shape[-2], one.shape[-1]) for one in maps]
        channels = maps[0].shape[1]
        tokens = torch.cat([one.flatten(2).mT for one in maps], dim=1)
        positions = [
            sine_positions(grid, channels, like=tokens).flatten(1).T + embedding
            for grid, embedding in zip(grids, self.level_embed, strict=True)
        ]
        positions_BSC = torch.cat(positions)[None].expand_as(tokens)
        centres_S2 = torch.cat([cell_centres(grid, like=tokens) for grid in grids])
        layers: nn.ModuleList = self.encoder.layers  # type: ignore[assignment]
        for layer in layers:
            tokens = layer(tokens, positions_BSC, centres_S2, grids)
        parts = torch.split(tokens, [rows * cols for rows, cols in grids], dim=1)
        return [part.mT.reshape(len(part), channels, *grid) for part, grid in zip(parts, grids, strict=True)]


def cell_centres(grid: Grid, *, like: Tensor) -> Tensor:
    """Centres (Y * X, 2) of the cells, `xy` in [0, 1], row by row."""
    rows, cols = grid
    y = (torch.arange(rows, device=like.device, dtype=torch.float32) + 0.5) / rows
    x = (torch.arange(cols, device=like.device, dtype=torch.float32) + 0.5) / cols
    return torch.stack([x.expand(rows, cols), y[:, None].expand(rows, cols)], dim=-1).flatten(0, 1)


class NormedConv(nn.Conv2d):
    """A convolution without bias and its group norm, which carries the published name `norm`.

    Args:
        inside: Channels in.
        outside: Channels out.
        kernel: Side, odd.
    """

    def __init__(self, inside: int, outside: int, *, kernel: int) -> None:
        super().__init__(inside, outside, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, outside)

    def forward(self, map_BCYX: Tensor) -> Tensor:
        """Convolves and normalises."""
        normed: Tensor = self.norm(super().forward(map_BCYX))
        return normed


class PixelDecoder(nn.Module):
    """A pyramid at strides 4, 8, 16, 32 -> mask features at stride 4 and three mixed levels.

    Source: Mask2Former (arXiv:2112.01527), Sec. 3.2.1, with the parameter names that ODISE and FC-CLIP published.

    Args:
        in_channels: Channels of the pyramid at strides 4, 8, 16 and 32.
        channels: Width inside; a multiple of 32.
        mask_channels: Width of the mask features.
        layers: Deformable layers.
        heads: Attention heads.
        points: Places a head looks at on each level.
        hidden: Width inside the feed-forward.

    Raises:
        ValueError: The pyramid has not four levels, or the width is no multiple of 32.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        channels: int = 256,
        mask_channels: int = 256,
        layers: int = 6,
        heads: int = 8,
        points: int = 4,
        hidden: int = 1024,
    ) -> None:
        super().__init__()
        if len(in_channels) != 4 or channels % GROUPS:
            raise ValueError(
                f"in_channels={tuple(in_channels)} and channels={channels}: expected four levels (strides 4, 8, 16, "
                f"32) and a multiple of {GROUPS}"
            )
        finest, *rest = in_channels
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inside, channels, 1), nn.GroupNorm(GROUPS, channels)) for inside in reversed(rest)
        )
        self.transformer = DeformableStack(
            layers=layers, channels=channels, heads=heads, levels=len(rest), points=points, hidden=hidden
        )
        self.adapter_1 = NormedConv(finest, channels, kernel=1)
        self.layer_1 = NormedConv(channels, channels, kernel=3)
        self.mask_features = nn.Conv2d(channels, mask_channels, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> PixelFeatures:
        """Decodes, in float32 whatever the caller's precision.

        Args:
            pyramid: Maps (B, C, Y, X) at strides 4, 8, 16 and 32.
        """
        with torch.autocast(pyramid[0].device.type, enabled=False):
            finest, *rest = [one.float() for one in pyramid]
            coarse_first = [project(one) for project, one in zip(self.input_proj, reversed(rest), strict=True)]
            levels = self.transformer(coarse_first)
            lateral = self.adapter_1(finest)
            above = F.interpolate(levels[-1], size=lateral.shape[-2:], mode="bilinear", align_corners=False)
            fine = F.relu(self.layer_1(lateral + above))
            return PixelFeatures(mask_features=self.mask_features(fine), levels=tuple(levels))
