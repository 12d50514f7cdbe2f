"""Attention without a softmax: its cost grows with the length of the sequence, not with its square."""

from dataclasses import dataclass
from typing import Any

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

    def forward(self, tokens_MTC: Tensor, guidance_BTG: Tensor, *, padding: Padding | None = None) -> Tensor:
        """Mixes the tokens of each sequence.

        Args:
            tokens_MTC: Tokens of M sequences: M / B that share the first guidance, then those of the next.
            guidance_BTG: The guidance; what is projected of it is computed once for all sequences that share it.
            padding: A token that follows every sequence several times; it is looked at and not handed out. Its part of
                the sums is computed once.
        """
        length = tokens_MTC.shape[1] + (padding.count if padding else 0)
        query, key, value = self._prepare(tokens_MTC, guidance_BTG, length)
        extra = None if padding is None else self._prepare(padding.token_11C, padding.guidance_11G, length)
        mixed = []
        for head in range(self.heads):  # strided views; all heads in one product would copy each of the three
            q, k, v = (part[..., head, :] for part in (query, key, value))
            summed, keys = k.mT @ v, k.sum(1, keepdim=True)
            if padding is not None and extra is not None:
                _, extra_k, extra_v = (part[..., head, :] for part in extra)
                summed, keys = summed + padding.count * (extra_k.mT @ extra_v), keys + padding.count * extra_k
            mixed.append((q @ summed) * (length / (q @ keys.mT + EPSILON)))
        return torch.cat(mixed, dim=-1)

    def _prepare(self, tokens_MTC: Tensor, guidance_BTG: Tensor, length: Any) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.project(tokens_MTC, guidance_BTG)
        # Values are divided ahead of the sum, so that half precision does not overflow.
        return F.elu(query) + 1, F.elu(key) + 1, value / length

    def project(self, tokens_MTC: Tensor, guidance_BTG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (M, T, heads, d)."""
        channels = tokens_MTC.shape[-1]
        on_tokens = torch.cat([self.q.weight[:, :channels], self.k.weight[:, :channels], self.v.weight])
        on_guidance = torch.cat([self.q.weight[:, channels:], self.k.weight[:, channels:]])
        guided = F.linear(guidance_BTG, on_guidance, torch.cat([self.q.bias, self.k.bias]))
        projected, width = F.linear(tokens_MTC, on_tokens), 2 * channels
        places = unfold_axis(projected[..., :width], 0, (guided.shape[0], -1)) + guided[:, None]
        query, key = places.flatten(0, 1).chunk(2, dim=-1)
        value = projected[..., width:] + self.v.bias.to(projected)
        query, key, value = (unfold_axis(part, -1, (self.heads, -1)) for part in (query, key, value))
        return query, key, value


class SoftmaxAttention(LinearAttention):
    """The same projections with an ordinary softmax between them: the other choice of CAT-Seg's released code."""

    def forward(self, tokens_MTC: Tensor, guidance_BTG: Tensor, *, padding: Padding | None = None) -> Tensor:
        """Mixes the tokens of each sequence; see `LinearAttention`."""
        query, key, value = self.project(tokens_MTC, guidance_BTG)
        if padding is not None:
            extra = [
                part.expand(query.shape[0], padding.count, -1, -1)
                for part in self.project(padding.token_11C, padding.guidance_11G)
            ]
            key, value = torch.cat([key, extra[1]], dim=1), torch.cat([value, extra[2]], dim=1)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).flatten(2)
