"""Attention without a softmax: its cost grows with the length of the sequence, not with its square."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.ops.axes import unfold_axis

EPSILON = 1e-6
"""Keeps the normaliser away from zero (the published value)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Padding:
    """One token that stands at the end of every sequence, several times over.

    Attributes:
        token_11C: The token.
        guidance_11G: Its guidance.
        count: How often it stands there.
    """

    token_11C: Tensor
    guidance_11G: Tensor
    count: int


class LinearAttention(nn.Module):
    """Attention with the kernel elu + 1; guidance joins queries and keys, there is no output projection.

    Source: Linear transformers (arXiv:2006.16236), as CAT-Seg (arXiv:2303.11797) uses them over classes.

    Args:
        channels: Width of the tokens.
        guidance_channels: Width of the guidance.
        heads: Attention heads.
    """

    def __init__(self, *, channels: int, guidance_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels + guidance_channels, channels)
        self.k = nn.Linear(channels + guidance_channels, channels)
        self.v = nn.Linear(channels, channels)

    def forward(self, tokens_MTC: Tensor, guidance_MTG: Tensor, *, padding: Padding | None = None) -> Tensor:
        """Mixes the tokens of each sequence.

        Args:
            tokens_MTC: Tokens of M sequences.
            guidance_MTG: Their guidance.
            padding: A token that follows every sequence several times; it is looked at and not handed out. Its part of
                the sums is computed once.
        """
        guided = torch.cat([tokens_MTC, guidance_MTG], dim=-1)
        query, key = F.elu(self._heads(self.q, guided)) + 1, F.elu(self._heads(self.k, guided)) + 1
        length = tokens_MTC.shape[1] + (padding.count if padding else 0)
        value = self._heads(self.v, tokens_MTC) / length  # divided first, so that half precision does not overflow
        summed, keys = key.mT @ value, key.sum(2, keepdim=True)
        if padding is not None:
            extra = F.elu(self._heads(self.k, torch.cat([padding.token_11C, padding.guidance_11G], dim=-1))) + 1
            summed = summed + padding.count * (extra.mT @ (self._heads(self.v, padding.token_11C) / length))
            keys = keys + padding.count * extra
        normaliser = query @ keys.mT + EPSILON
        return (query @ summed / normaliser * length).transpose(1, 2).flatten(2)

    def _heads(self, project: nn.Module, rows: Tensor) -> Tensor:
        projected: Tensor = project(rows)
        return unfold_axis(projected, -1, (self.heads, -1)).transpose(1, 2)


class SoftmaxAttention(LinearAttention):
    """The same projections with an ordinary softmax between them: the other choice of CAT-Seg's released code."""

    def forward(self, tokens_MTC: Tensor, guidance_MTG: Tensor, *, padding: Padding | None = None) -> Tensor:
        """Mixes the tokens of each sequence; see `LinearAttention`."""
        guided, looked_at = torch.cat([tokens_MTC, guidance_MTG], dim=-1), tokens_MTC
        keys = guided
        if padding is not None:
            extra = torch.cat([padding.token_11C, padding.guidance_11G], dim=-1)
            keys = torch.cat([guided, extra.expand(len(guided), padding.count, -1)], dim=1)
            looked_at = torch.cat([tokens_MTC, padding.token_11C.expand(len(guided), padding.count, -1)], dim=1)
        mixed = F.scaled_dot_product_attention(
            self._heads(self.q, guided), self._heads(self.k, keys), self._heads(self.v, looked_at)
        )
        return mixed.transpose(1, 2).flatten(2)
