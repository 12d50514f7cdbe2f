"""Which tokens share their values in a block: one function a way, of what a readout may look at."""

from collections.abc import Mapping
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.readout_context import Mix, ReadoutContext


def own_value(context: ReadoutContext) -> Tensor:
    """Every token keeps its own value."""
    return context.heads("v")


def _attend(left: str, right: str) -> Mix:
    def mix(context: ReadoutContext) -> Tensor:
        return F.scaled_dot_product_attention(context.heads(left), context.heads(right), context.heads("v"))

    return mix


def queries_and_keys(context: ReadoutContext) -> Tensor:
    """SCLIP: queries with queries plus keys with keys."""
    query, key, value = (context.heads(part) for part in "qkv")
    by_query = F.scaled_dot_product_attention(query, query, value)
    return by_query + F.scaled_dot_product_attention(key, key, value)


def keys_near_by(context: ReadoutContext, *, std: float = 5.0) -> Tensor:
    """NACLIP: keys with keys, and a bonus for near patches.

    Args:
        context: What may be looked at.
        std: Width of the neighbour term, in patches.
    """
    key, tokens = context.heads("k"), context.tokens
    window = gaussian_window(tokens.grid, std=std, prefix=tokens.prefix).to(key)
    return F.scaled_dot_product_attention(key, key, context.heads("v"), attn_mask=window)


def neighbours(context: ReadoutContext, *, std: float = 5.0) -> Tensor:
    """NACLIP's ablation: attention from distance alone, at the strength that queries and keys would have had."""
    query, key, tokens = context.heads("q"), context.heads("k"), context.tokens
    strength = (query.norm(dim=-1).mean(-1) * key.norm(dim=-1).mean(-1)).mean() * query.shape[-1] ** -0.5
    logits = strength * gaussian_window(tokens.grid, std=std, prefix=tokens.prefix).to(query)
    mixed: Tensor = logits.softmax(-1) @ context.heads("v")
    return mixed


def self_self(context: ReadoutContext, *, rounds: int = 1, gain: float = 1.0) -> Tensor:
    """GEM: values by the tokens' likeness among queries, keys and values, each clustered first; the mean of the three.

    Queries, keys and values become unit vectors and are averaged among their like, `rounds` times. How sharply follows
    from the images: the mean length of the tokens after their norm, over the root of a head's width.

    Source: GEM (arXiv:2312.00878), Sec. 3; one round there as here.

    Args:
        context: What may be looked at.
        rounds: How often tokens are averaged ahead of the values.
        gain: Multiplies the sharpness.
    """
    value = context.heads("v")
    sharpness = gain * context.normed().norm(dim=-1).mean(dim=1)[:, None, None, None]
    total = torch.zeros_like(value)
    for part in "qkv":
        heads = F.normalize(context.heads(part), dim=-1)
        for _ in range(int(rounds)):
            heads = F.normalize(F.scaled_dot_product_attention(sharpness * heads, heads, heads), dim=-1)
        total = total + F.scaled_dot_product_attention(sharpness * heads, heads, value)
    return total / 3


def gaussian_window(grid: tuple[int, int], *, std: float, prefix: int = 1) -> Tensor:
    """The neighbour term of NACLIP: exp(-distance^2 / (2 std^2)) between patches, 0 for the class token.

    Args:
        grid: Rows and columns of the patches.
        std: Standard deviation in patches.
        prefix: Tokens ahead of the patches.

    Returns:
        Additive attention bias (prefix + P, prefix + P), values in [0, 1].
    """
    rows, cols = grid
    y = torch.arange(rows, dtype=torch.float32)
    x = torch.arange(cols, dtype=torch.float32)
    near_y = torch.exp(-((y[:, None] - y[None]) ** 2) / (2 * std**2))
    near_x = torch.exp(-((x[:, None] - x[None]) ** 2) / (2 * std**2))
    near = torch.einsum("ab,cd->acbd", near_y, near_x).reshape(rows * cols, rows * cols)
    return F.pad(near, (prefix, 0, prefix, 0))


MIXES: Final[Mapping[str, Mix]] = {
    "value": own_value,
    "qk": _attend("q", "k"),
    "qq": _attend("q", "q"),
    "kk": _attend("k", "k"),
    "vv": _attend("v", "v"),
    "qq+kk": queries_and_keys,
    "kk+gauss": keys_near_by,
    "gauss": neighbours,
    "self-self": self_self,
}
