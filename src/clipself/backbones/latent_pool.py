"""timm's attention pool with a learnt query (`AttentionPoolLatent`): of SigLIP and of the Perception Encoder."""

from typing import Any

import torch.nn.functional as F
from timm.layers import AttentionPoolLatent
from torch import Tensor


def check_latent_pool(pool: Any) -> None:
    """Refuses pools that ask several questions or hold positions of one grid.

    Raises:
        ValueError: The pool is of another kind; the message says which.
    """
    if not isinstance(pool, AttentionPoolLatent) or pool.latent_len != 1 or pool.pos_embed is not None:
        said = f"{type(pool).__name__} with {getattr(pool, 'latent_len', 'no')} learnt queries"
        raise ValueError(
            f"no dense readout for this attention pool ({said}); one learnt query without positions is read"
        )


def value_of_pool(pool: Any, tokens_BNC: Tensor) -> Tensor:
    """What the pool would make of each token if it were alone: its value, output projection and feed-forward.

    Over a map of equal tokens it equals the pool itself. Source: MaskCLIP (arXiv:2112.01071), for CLIP's ResNets.

    Args:
        pool: timm's `AttentionPoolLatent`.
        tokens_BNC: Tokens behind the final norm.

    Returns:
        (B, N, C).
    """
    weight, bias = pool.kv.weight.chunk(2)[1], None if pool.kv.bias is None else pool.kv.bias.chunk(2)[1]
    out: Tensor = pool.proj(F.linear(tokens_BNC, weight, bias))
    return out if pool.mlp is None else out + pool.mlp(pool.norm(out))
