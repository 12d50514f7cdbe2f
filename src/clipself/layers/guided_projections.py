"""Queries, keys and values of tokens, where guidance joins queries and keys and values stay free of it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.ops.axes import unfold_axis


class GuidedProjections(nn.Module):
    """What every attention of CAT-Seg begins with (arXiv:2303.11797, Sec. 3.3), with the published parameter names.

    Args:
        channels: Width of the tokens.
        guidance_channels: Width of the guidance; 0 for none.
        heads: Attention heads.
    """

    def __init__(self, *, channels: int, guidance_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels + guidance_channels, channels)
        self.k = nn.Linear(channels + guidance_channels, channels)
        self.v = nn.Linear(channels, channels)

    def project(self, tokens_MNC: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (M, N, heads, d).

        Args:
            tokens_MNC: Tokens of M sequences: all that share the first guidance, then those of the next.
            guidance: Guidance (B, ..., N, G) of B times as many sequences as the axes between count; what is projected
                of it is computed once for all sequences that share it.
        """
        channels = tokens_MNC.shape[-1]
        on_tokens = torch.cat([self.q.weight[:, :channels], self.k.weight[:, :channels], self.v.weight])
        on_guidance = torch.cat([self.q.weight[:, channels:], self.k.weight[:, channels:]])
        guided = F.linear(guidance, on_guidance, torch.cat([self.q.bias, self.k.bias]))
        guided = torch.cat([guided, self.v.bias.to(guided).expand(*guided.shape[:-1], -1)], dim=-1)
        projected = unfold_axis(F.linear(tokens_MNC, on_tokens), 0, (guided.shape[0], -1, *guided.shape[1:-2]))
        projected = (projected + guided[:, None]).flatten(0, -3)
        query, key, value = (unfold_axis(part, -1, (self.heads, -1)) for part in projected.chunk(3, dim=-1))
        return query, key, value
