"""Attention without a softmax: its cost grows with the length of the sequence, not with its square."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.layers.guided_projections import GuidedProjections

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


class LinearAttention(GuidedProjections):
    """Attention with the kernel elu + 1; there is no output projection.

    Source: Linear transformers (arXiv:2006.16236), as CAT-Seg (arXiv:2303.11797) uses them over classes.

    Args:
        channels: Width of the tokens.
        guidance_channels: Width of the guidance.
        heads: Attention heads.
    """

    def forward(self, tokens_MTC: Tensor, guidance_BTG: Tensor, *, padding: Padding | None = None) -> Tensor:
        """Mixes the tokens of each sequence.

        Args:
            tokens_MTC: Tokens of M sequences: M / B that share the first guidance, then those of the next.
            guidance_BTG: The guidance.
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


class SoftmaxAttention(GuidedProjections):
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
