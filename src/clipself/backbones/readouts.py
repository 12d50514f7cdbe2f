"""How the last block is turned into a dense map: the published value path and the training-free variants."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.trunk import Sequence, Trunk, join_heads
from clipself.choices import pick

GAUSSIAN_STD: Final = 5.0
"""Width of the neighbour term in patches (NACLIP, arXiv:2404.08181)."""

Heads = Callable[[str], Tensor]
Mix = Callable[[Heads, tuple[int, int]], Tensor]
"""Given a look-up of "q", "k", "v" heads (B, h, N, d) and the grid, the mixed values (B, h, N, d)."""


def _self_only(heads: Heads, grid: tuple[int, int]) -> Tensor:
    return heads("v")


def _attend(left: str, right: str) -> Mix:
    def mix(heads: Heads, grid: tuple[int, int]) -> Tensor:
        return F.scaled_dot_product_attention(heads(left), heads(right), heads("v"))

    return mix


def _queries_and_keys(heads: Heads, grid: tuple[int, int]) -> Tensor:
    query, key, value = heads("q"), heads("k"), heads("v")
    by_query = F.scaled_dot_product_attention(query, query, value)
    return by_query + F.scaled_dot_product_attention(key, key, value)


def _keys_near_by(heads: Heads, grid: tuple[int, int]) -> Tensor:
    key = heads("k")
    window = gaussian_window(grid, std=GAUSSIAN_STD).to(key)
    return F.scaled_dot_product_attention(key, key, heads("v"), attn_mask=window)


MIXES: Final[Mapping[str, Mix]] = {
    "value": _self_only,
    "qk": _attend("q", "k"),
    "qq": _attend("q", "q"),
    "kk": _attend("k", "k"),
    "vv": _attend("v", "v"),
    "qq+kk": _queries_and_keys,
    "kk+gauss": _keys_near_by,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Readout:
    """One way through the last block.

    Attributes:
        mix: A row of `MIXES`: which tokens share their values.
        residual: Whether the mixed values are added to what entered the block; "class" adds the class token that
            entered to every token instead.
        feed_forward: Whether the feed-forward half follows.
    """

    mix: str
    residual: bool | Literal["class"] = True
    feed_forward: bool = True


READOUTS: Final[Mapping[str, Readout]] = {
    **{name: Readout(mix=name) for name in MIXES},
    **{f"{name}-bare": Readout(mix=name, residual=False, feed_forward=False) for name in MIXES},
    "catseg": Readout(mix="value", residual="class"),
    "maskclip": Readout(mix="value"),
    "sclip": Readout(mix="qq+kk"),
    "clearclip": Readout(mix="qq", residual=False, feed_forward=False),
    "naclip": Readout(mix="kk+gauss", residual=False, feed_forward=False),
}
"""Names: a mix as it is, or with "-bare" for no residual and no feed-forward; then the methods by their own names.

CAT-Seg (second release) arXiv:2303.11797, MaskCLIP arXiv:2112.01071, SCLIP arXiv:2312.01597,
ClearCLIP arXiv:2407.12442, NACLIP arXiv:2404.08181.
"""


def find_readout(readout: str | Readout) -> Readout:
    """A readout by name, or the one that was passed.

    Raises:
        ValueError: No readout has this name; the message lists the names.
    """
    return readout if isinstance(readout, Readout) else pick(READOUTS, readout, what="readout")


def read_last_block(trunk: Trunk, sequence: Sequence, *, readout: Readout) -> Tensor:
    """Runs the last block the chosen way, for every token.

    With mix "value" no token sees another one, so that each patch keeps its own embedding. Source: CLIPSelf
    (arXiv:2310.01403, Sec. 3.1), after MaskCLIP.

    Args:
        trunk: The tower.
        sequence: What enters the last block.
        readout: Mixing, residual and feed-forward.

    Returns:
        Tokens (B, 1 + P, C) after the block, ahead of the final norm.
    """
    return mix_last_block(
        trunk, sequence, MIXES[readout.mix], residual=readout.residual, feed_forward=readout.feed_forward
    )


def mix_last_block(
    trunk: Trunk, sequence: Sequence, mix: Mix, *, residual: bool | Literal["class"], feed_forward: bool
) -> Tensor:
    """Runs the last block with any mixing of values; see `read_last_block`."""
    block, tokens = trunk.blocks[-1], sequence.tokens
    normed = trunk.norm_attention(block, tokens)

    def heads(part: str) -> Tensor:
        projected = trunk.project(block, normed, part)
        return projected if part == "v" else trunk.rotate(projected, sequence)

    out = trunk.merge_heads(block, join_heads(mix(heads, sequence.grid)))
    if trunk.pools_by_attention:
        return out
    if residual:
        out = (tokens[:, :1] if residual == "class" else tokens) + out
    if feed_forward:
        out = out + trunk.feed_forward(block, out)
    return out


def unread_parameters(trunk: Trunk, *, readout: Readout) -> list[nn.Parameter]:
    """Parameters of the last block that this readout never touches, so that they cannot learn through it."""
    block: Any = trunk.blocks[-1]
    idle = [] if readout.mix not in ("value", "vv") else trunk.block_parameters(block, "query_key")
    return idle + ([] if readout.feed_forward else trunk.block_parameters(block, "feed_forward"))


def gaussian_window(grid: tuple[int, int], *, std: float) -> Tensor:
    """The neighbour term of NACLIP: exp(-distance^2 / (2 std^2)) between patches, 0 for the class token.

    Args:
        grid: Rows and columns of the patches.
        std: Standard deviation in patches.

    Returns:
        Additive attention bias (1 + P, 1 + P), values in [0, 1].
    """
    rows, cols = grid
    y = torch.arange(rows, dtype=torch.float32)
    x = torch.arange(cols, dtype=torch.float32)
    near_y = torch.exp(-((y[:, None] - y[None]) ** 2) / (2 * std**2))
    near_x = torch.exp(-((x[:, None] - x[None]) ** 2) / (2 * std**2))
    near = torch.einsum("ab,cd->acbd", near_y, near_x).reshape(rows * cols, rows * cols)
    return F.pad(near, (1, 0, 1, 0))
