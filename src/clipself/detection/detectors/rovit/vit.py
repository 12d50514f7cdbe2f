"""A plain vision transformer without a class token, most of whose blocks look within windows.

Source: RO-ViT (arXiv:2305.07011) and DITO (arXiv:2310.00161), released code of the detector; names as published.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clipself.backbones.tokens import join_heads, split_heads
from clipself.layers.norms import ChannelNorm
from clipself.ops.windows import join_windows, split_windows


class Attention(nn.Module):
    """Queries, keys and values apart, as the published tree has them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        query, key, value = (split_heads(part(tokens_BNC), self.heads) for part in (self.query, self.key, self.value))
        mixed: Tensor = self.out(join_heads(F.scaled_dot_product_attention(query, key, value)))
        return mixed


class Mlp(nn.Module):
    """Two layers with tanh GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        out: Tensor = self.c_proj(F.gelu(self.c_fc(tokens_BNC), approximate="tanh"))
        return out


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int, *, mlp_ratio: float, eps: float) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.mlp = Mlp(width, round(width * mlp_ratio))

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        tokens_BNC = tokens_BNC + self.attn(self.ln_1(tokens_BNC))
        out: Tensor = tokens_BNC + self.mlp(self.ln_2(tokens_BNC))
        return out


class PlainViT(nn.Module):
    """Images with pixels in [0, 1] -> one map at the stride of a patch, behind the last norm.

    Args:
        patch: Side of a patch, in pixels.
        width: Channels.
        layers: Blocks.
        heads: Of their attention.
        table: Side of the position table, in patches.
        windows: Of each block how many windows lie along a side; 0 for a block that looks everywhere.
        shift: Patches that a second pass is rolled by, up and to the right; both are averaged. 0 for no second pass.
        mlp_ratio: Hidden channels of the MLP over the width.
        eps: Of the norms.

    Raises:
        ValueError: There is not one count of windows a block.
    """

    def __init__(
        self, *, patch: int, width: int, layers: int, heads: int, table: int, windows: Sequence[int], shift: int = 0,
        mlp_ratio: float = 4.0, eps: float = 1e-6,
    ) -> None:  # fmt: skip
        super().__init__()
        if len(windows) != layers:
            raise ValueError(f"{len(windows)} counts of windows for {layers} blocks; each block needs one, 0 for none")
        if width % heads:
            raise ValueError(f"width={width} is no multiple of heads={heads}")
        self.patch, self.width, self.table, self.shift = patch, width, table, shift
        self.windows = tuple(windows)
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch)
        self.positional_embedding = nn.Parameter(0.02 * torch.randn(table * table, width))
        blocks = [Block(width, heads, mlp_ratio=mlp_ratio, eps=eps) for _ in range(layers)]
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(blocks)})
        self.ln_post = ChannelNorm(width, eps=eps)
        self.grad_checkpointing = False
        self.apply(_init)

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks."""
        held: Any = self.transformer["resblocks"]
        return [*held]

    def forward(self, images_B3HW: Tensor, windows: Sequence[int] | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / patch, W / patch).

        Args:
            images_B3HW: Pixels in [0, 1].
            windows: Other windows than its own.

        Raises:
            ValueError: The grid does not divide into the windows.
        """
        patches_BYXC = self.conv1(images_B3HW).permute(0, 2, 3, 1)
        counts = self.windows if windows is None else tuple(windows)
        read_BYXC = self.run(patches_BYXC, counts)
        if self.shift:
            rolled = self.run(patches_BYXC.roll((-self.shift, self.shift), dims=(1, 2)), counts)
            read_BYXC = (read_BYXC + rolled.roll((self.shift, -self.shift), dims=(1, 2))) / 2
        normed: Tensor = self.ln_post(read_BYXC.permute(0, 3, 1, 2))
        return normed

    def run(self, patches_BYXC: Tensor, windows: Sequence[int]) -> Tensor:
        """Positions of the whole grid, then the blocks: (B, Y, X, C) -> (B, Y, X, C)."""
        grid = (patches_BYXC.shape[1], patches_BYXC.shape[2])
        map_BYXC = patches_BYXC + self.positions(grid).to(patches_BYXC.dtype)
        for block, count in zip(self.blocks, windows, strict=True):
            tokens = split_windows(map_BYXC, count or 1)
            if self.grad_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
            map_BYXC = join_windows(tokens, count or 1, grid)
        return map_BYXC

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """The table on another grid (Y, X, C): bilinear, and smoothed where it shrinks, as JAX resizes."""
        map_1CYX = self.positional_embedding.mT.reshape(1, self.width, self.table, self.table)
        resized = F.interpolate(map_1CYX.float(), size=grid, mode="bilinear", align_corners=False, antialias=True)
        return resized[0].permute(1, 2, 0)


def _init(module: nn.Module) -> None:
    """Small matrices, as ViTs start."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
