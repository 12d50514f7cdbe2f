"""How the last block is turned into a dense map: the published value path and the training-free variants."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.tokens import Tokens, join_heads
from clipself.choices import pick


class Attention(Protocol):
    """What a readout needs of a trunk: blocks whose attention comes apart."""

    blocks: nn.ModuleList

    def norm_attention(self, block: nn.Module, tokens_BNC: Tensor) -> Tensor:
        """The norm ahead of a block's attention."""

    def project(self, block: nn.Module, normed_BNC: Tensor, part: str) -> Tensor:
        """Queries ("q"), keys ("k") or values ("v") as heads (B, h, N, C / h), without rotary positions."""

    def rotate(self, heads_BhND: Tensor, tokens: Tokens) -> Tensor:
        """Rotary positions on queries or keys."""

    def merge_heads(self, block: nn.Module, mixed_BNC: Tensor) -> Tensor:
        """What follows the mixing of values."""

    def feed_forward(self, block: nn.Module, tokens_BNC: Tensor) -> Tensor:
        """Norm, feed-forward and layer scale, without the residual."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadoutContext:
    """Everything that a readout may look at.

    Attributes:
        trunk: The tower; a readout may run its blocks.
        entered: What entered the last blocks, the last one's in the end; as many as the readout looks back.
        images_B3HW: The normalised images.
        guide_BCyx: Features for the same images, on a grid of their own; another model's, or else what entered the
            last block.
    """

    trunk: Attention
    entered: tuple[Tokens, ...]
    images_B3HW: Tensor
    guide_BCyx: Tensor

    @property
    def tokens(self) -> Tokens:
        """What entered the last block."""
        return self.entered[-1]

    def heads(self, part: str, *, block: int = -1) -> Tensor:
        """Queries "q", keys "k" or values "v" of a block, with its rotary positions (B, h, N, d).

        Args:
            part: One of the three.
            block: Counted from the end; -1 is the last.

        Raises:
            ValueError: The block lies further back than the readout says that it looks.
        """
        if not -len(self.entered) <= block < 0:
            raise ValueError(
                f"block {block} is not among the last {len(self.entered)}; a readout that looks further back says so "
                "by Readout(looks_back=...), at most the depth of the trunk"
            )
        module, tokens = self.trunk.blocks[block], self.entered[block]
        projected = self.trunk.project(module, self.trunk.norm_attention(module, tokens.tokens), part)
        return projected if part == "v" else self.trunk.rotate(projected, tokens)


Mix = Callable[..., Tensor]
"""Given a `ReadoutContext` and options by keyword, the mixed values (B, h, N, d)."""


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


def guided(context: ReadoutContext, *, beta: float = 1.2, gamma: float = 3.0) -> Tensor:
    """ProxyCLIP: attention from another model's patch cosines, negatives cut off, on that model's grid.

    A patch sees itself in any case, which matters where all are alike.

    Args:
        context: What may be looked at, the guide among it.
        beta: Share of the mean cosine that is taken off.
        gamma: Sharpness.
    """
    guide, tokens, value = context.guide_BCyx, context.tokens, context.heads("v")
    unit = F.normalize(guide.flatten(2), dim=1)
    cosine = unit.mT @ unit
    logits = (cosine - beta * cosine.mean()) * gamma
    others = ~torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    attention = logits.masked_fill((logits < 0) & others, float("-inf")).softmax(-1).to(value)
    ahead, patches = value[:, :, : tokens.prefix], value[:, :, tokens.prefix :]
    maps = patches.mT.reshape(patches.shape[0] * patches.shape[1], -1, *tokens.grid)
    resized = F.interpolate(maps, size=guide.shape[-2:], mode="bilinear", align_corners=False)
    moved = resized.flatten(2).mT.reshape(*patches.shape[:2], -1, patches.shape[-1])
    return torch.cat([ahead, attention[:, None] @ moved], dim=2)


MIXES: Final[Mapping[str, Mix]] = {
    "value": own_value,
    "qk": _attend("q", "k"),
    "qq": _attend("q", "q"),
    "kk": _attend("k", "k"),
    "vv": _attend("v", "v"),
    "qq+kk": queries_and_keys,
    "kk+gauss": keys_near_by,
    "gauss": neighbours,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Readout:
    """One way through the last block.

    Attributes:
        mix: A row of `MIXES`, or a function: which tokens share their values.
        residual: Whether the mixed values are added to what entered the block; "class" adds the class token that
            entered to every token instead.
        feed_forward: Whether the feed-forward half follows.
        options: Keywords of the mix that differ from its defaults.
        looks_back: How many of the last blocks the mix asks for.
        guided: Whether the map has the guide's grid.

    Raises:
        ValueError: The mix is unknown or does not take an option, or a guided readout adds what stands on another grid.
    """

    mix: str | Mix
    residual: bool | Literal["class"] = True
    feed_forward: bool = True
    options: Mapping[str, float] = field(default_factory=dict)
    looks_back: int = 1
    guided: bool = False

    def __post_init__(self) -> None:
        taken = [
            name for name, one in inspect.signature(self.function).parameters.items() if one.kind is one.KEYWORD_ONLY
        ]
        for name in self.options:
            if name not in taken:
                raise ValueError(f"readout option {name!r} is unknown; this one takes {taken or 'none'}")
        if self.guided and self.residual:
            raise ValueError("a guided readout has the guide's grid, so that no residual can be added to it")

    @property
    def function(self) -> Mix:
        """The mix itself."""
        return pick(MIXES, self.mix, what="mix") if isinstance(self.mix, str) else self.mix


READOUTS: Final[Mapping[str, Readout]] = {
    **{name: Readout(mix=name) for name in MIXES},
    **{f"{name}-bare": Readout(mix=name, residual=False, feed_forward=False) for name in MIXES},
    "catseg": Readout(mix="value", residual="class"),
    "maskclip": Readout(mix="value"),
    "sclip": Readout(mix="qq+kk"),
    "clearclip": Readout(mix="qq", residual=False, feed_forward=False),
    "naclip": Readout(mix="kk+gauss", residual=False, feed_forward=False),
    "proxyclip": Readout(mix=guided, residual=False, feed_forward=False, guided=True),
}
"""Names: a mix as it is, or with "-bare" for no residual and no feed-forward; then the methods by their own names.

CAT-Seg (second release) arXiv:2303.11797, MaskCLIP arXiv:2112.01071, SCLIP arXiv:2312.01597,
ClearCLIP arXiv:2407.12442, NACLIP arXiv:2404.08181, ProxyCLIP arXiv:2408.04883.
"""


def find_readout(readout: str | Readout) -> Readout:
    """A readout by name, with options after a colon ("naclip:std=3"), or the one that was passed.

    Raises:
        ValueError: No readout has this name, or it takes no such option; the message lists what there is.
    """
    if isinstance(readout, Readout):
        return readout
    name, _, given = readout.partition(":")
    found = pick(READOUTS, name, what="readout")
    return replace(found, options={**found.options, **_options_of(given)}) if given else found


def _options_of(given: str) -> dict[str, float]:
    options = {}
    for one in given.split(","):
        name, _, value = one.partition("=")
        try:
            options[name.strip()] = float(value)
        except ValueError as error:
            raise ValueError(f"{one!r} is no readout option; write name=number, as in 'naclip:std=3'") from error
    return options


def read_last_block(context: ReadoutContext, readout: Readout) -> Tokens:
    """Runs the last block the chosen way, for every token.

    With mix "value" no token sees another one, so that each patch keeps its own embedding. Source: CLIPSelf
    (arXiv:2310.01403, Sec. 3.1), after MaskCLIP.

    Args:
        context: What entered the block, and what else the readout may look at.
        readout: Mixing, residual and feed-forward.

    Returns:
        Tokens after the block, ahead of the final norm; on the guide's grid for a guided readout.

    Raises:
        ValueError: The readout adds a class token that is not there.
    """
    trunk, entered, guide = context.trunk, context.tokens, context.guide_BCyx
    if readout.residual == "class" and not entered.prefix:
        raise ValueError("this readout adds the class token, and the trunk has none; use 'value'")
    block: Any = trunk.blocks[-1]
    out = trunk.merge_heads(block, join_heads(readout.function(context, **readout.options)))
    if readout.residual:
        out = (entered.tokens[:, :1] if readout.residual == "class" else entered.tokens) + out
    if readout.feed_forward:
        out = out + trunk.feed_forward(block, out)
    grid = (guide.shape[-2], guide.shape[-1]) if readout.guided else entered.grid
    return replace(entered, tokens=out, grid=grid)


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
