"""The masked decoder of the Mask2Former family: queries that look only where their own mask is."""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.layers.pixel_decoder import PixelFeatures
from clipself.layers.sine_positions import sine_positions


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryState:
    """The queries after a layer.

    Attributes:
        queries_BQC: Normalised queries.
        masks_BQYX: Mask logits at the stride of the mask features.
    """

    queries_BQC: Tensor
    masks_BQYX: Tensor


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        widths: Of the input, the hidden layers and the output.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, rows: Tensor) -> Tensor:
        """Maps the last axis."""
        for linear in self.layers[:-1]:
            rows = F.relu(linear(rows))
        last: Tensor = self.layers[-1](rows)
        return last


class CrossAttention(nn.Module):
    """Queries look at a map, norm after.

    Args:
        channels: Width.
        heads: Attention heads.
    """

    def __init__(self, *, channels: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, places: Tensor, memory: Tensor, positions: Tensor, blocked: Tensor) -> Tensor:
        """One step; `blocked` (B, Q, S) is True where a query must not look."""
        mask = blocked.repeat_interleave(self.multihead_attn.num_heads, dim=0)
        seen, _ = self.multihead_attn(queries + places, memory + positions, memory, attn_mask=mask, need_weights=False)
        normed: Tensor = self.norm(queries + seen)
        return normed


class SelfAttention(nn.Module):
    """Queries look at one another, norm after.

    Args:
        channels: Width.
        heads: Attention heads.
    """

    def __init__(self, *, channels: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, places: Tensor) -> Tensor:
        """One step."""
        placed = queries + places
        seen, _ = self.self_attn(placed, placed, queries, need_weights=False)
        normed: Tensor = self.norm(queries + seen)
        return normed


class FeedForward(nn.Module):
    """Each query by itself, norm after.

    Args:
        channels: Width.
        hidden: Width inside.
    """

    def __init__(self, *, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries: Tensor) -> Tensor:
        """One step."""
        normed: Tensor = self.norm(queries + self.linear2(F.relu(self.linear1(queries))))
        return normed


class MaskedDecoder(nn.Module):
    """Learnt queries that become masks, layer by layer.

    Source: Mask2Former (arXiv:2112.01527), Sec. 3.2, with the published parameter names.

    Args:
        channels: Width.
        mask_channels: Width of the mask features.
        queries: How many masks there are at most.
        layers: Decoder layers; they take the levels in turn, coarsest first.
        levels: Maps handed in.
        heads: Attention heads.
        hidden: Width inside the feed-forward.
    """

    def __init__(
        self,
        *,
        channels: int = 256,
        mask_channels: int = 256,
        queries: int = 100,
        layers: int = 9,
        levels: int = 3,
        heads: int = 8,
        hidden: int = 2048,
    ) -> None:
        super().__init__()
        depth = range(layers)
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttention(channels=channels, heads=heads) for _ in depth
        )
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttention(channels=channels, heads=heads) for _ in depth
        )
        self.transformer_ffn_layers = nn.ModuleList(FeedForward(channels=channels, hidden=hidden) for _ in depth)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        self.decoder_norm = nn.LayerNorm(channels)
        self.query_feat = nn.Embedding(queries, channels)
        self.query_embed = nn.Embedding(queries, channels)
        self.level_embed = nn.Embedding(levels, channels)
        self.mask_embed = MLP(channels, channels, channels, mask_channels)

    def decode(self, features: PixelFeatures) -> list[QueryState]:
        """Runs all layers.

        Args:
            features: Of a pixel decoder; as many levels as the decoder was made for.

        Returns:
            The state of the raw queries, then after each layer; the last one is the prediction.
        """
        memory = [
            level.flatten(2).mT + embedding
            for level, embedding in zip(features.levels, self.level_embed.weight, strict=True)
        ]
        grids = [(level.shape[-2], level.shape[-1]) for level in features.levels]
        positions = [
            sine_positions(grid, one.shape[-1], like=one).flatten(1).T for grid, one in zip(grids, memory, strict=True)
        ]
        batch = len(features.mask_features)
        queries = self.query_feat.weight.expand(batch, -1, -1)
        places = self.query_embed.weight.expand(batch, -1, -1)
        states = [self._state(queries, features.mask_features)]
        steps = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for index, (look, confer, think) in enumerate(steps):
            level = index % len(grids)
            blocked = blocked_cells(states[-1].masks_BQYX, grids[level])
            queries = think(confer(look(queries, places, memory[level], positions[level], blocked), places))
            states.append(self._state(queries, features.mask_features))
        return states

    def _state(self, queries: Tensor, mask_features: Tensor) -> QueryState:
        normed = self.decoder_norm(queries)
        masks = torch.einsum("bqc,bcyx->bqyx", self.mask_embed(normed), mask_features)
        return QueryState(queries_BQC=normed, masks_BQYX=masks)


@torch.no_grad()
def blocked_cells(masks_BQYX: Tensor, grid: tuple[int, int]) -> Tensor:
    """Where a query must not look: outside its mask; a query without a mask may look everywhere.

    Args:
        masks_BQYX: Mask logits.
        grid: Rows and columns of the level that is looked at.

    Returns:
        Booleans (B, Q, rows * columns).
    """
    resized = F.interpolate(masks_BQYX.float(), size=grid, mode="bilinear", align_corners=False)
    blocked = (resized.sigmoid() < 0.5).flatten(2)
    return blocked & ~blocked.all(-1, keepdim=True)
