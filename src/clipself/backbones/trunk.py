"""What every vision trunk offers to the dense readouts: blocks one by one, queries, keys and values apart."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clipself.ops.positions import resize_position_table


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequence:
    """Tokens on their way through the blocks.

    Attributes:
        tokens: (B, 1 + P, C), class token first, patches row by row.
        grid: Rows and columns of the patches, P = rows * columns.
        rope: Rotary table (P, 2 * head width) of a trunk that has one.
    """

    tokens: Tensor
    grid: tuple[int, int]
    rope: Tensor | None = None

    def with_tokens(self, tokens: Tensor) -> "Sequence":
        """The same grid and rotary table around other tokens."""
        return Sequence(tokens=tokens, grid=self.grid, rope=self.rope)


class Trunk(ABC):
    """A view of a stock vision tower; it owns no parameters and changes none of the tower's code.

    A new family is one subclass in one file and one line in `dense_clip.TRUNKS`.

    Attributes:
        pools_by_attention: Whether the tower is convolutional and its one block an attention pool without residual.
        stage_strides: Strides of a convolutional tower's stages, finest first; none for a transformer.
    """

    pools_by_attention = False
    stage_strides: tuple[int, ...] = ()
    tower: nn.Module
    blocks: nn.ModuleList
    patch_size: int
    native_grid: tuple[int, int]
    width: int
    embed_dim: int
    num_heads: int
    head_dim: int

    def __init__(self) -> None:
        self.grad_checkpointing = False
        self.resize_positions_by: Literal["size", "scale_factor"] = "size"

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @abstractmethod
    def embed(self, images_B3HW: Tensor) -> Sequence:
        """Patches, class token and positions: what enters the first block."""

    @abstractmethod
    def run_block(self, block: nn.Module, sequence: Sequence) -> Tensor:
        """The stock block, attention included."""

    @abstractmethod
    def norm_attention(self, block: nn.Module, tokens_BNC: Tensor) -> Tensor:
        """The norm ahead of a block's attention."""

    @abstractmethod
    def project(self, block: nn.Module, normed_BNC: Tensor, part: str) -> Tensor:
        """Queries ("q"), keys ("k") or values ("v") as heads (B, h, N, C / h), without rotary positions."""

    @abstractmethod
    def merge_heads(self, block: nn.Module, mixed_BNC: Tensor) -> Tensor:
        """What follows the mixing of values: inner norm where there is one, output projection, layer scale."""

    @abstractmethod
    def feed_forward(self, block: nn.Module, tokens_BNC: Tensor) -> Tensor:
        """Norm, feed-forward and layer scale, without the residual."""

    @abstractmethod
    def head(self, tokens_BNC: Tensor) -> Tensor:
        """Final norm and projection to the joint space, for every token."""

    @property
    @abstractmethod
    def position_table(self) -> nn.Parameter:
        """The learnt positions of class token and patches."""

    @abstractmethod
    def block_parameters(self, block: nn.Module, part: str) -> list[nn.Parameter]:
        """Parameters that serve nothing but one part of a block.

        Args:
            block: One of `blocks`.
            part: "query_key", "merge", "feed_forward"; a part fused with another one has no parameters of its own.
        """

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels of a convolutional tower's stages; none for a transformer."""
        return ()

    def stages(self, images_B3HW: Tensor) -> list[Tensor]:
        """Maps of a convolutional tower's stages, finest first; none for a transformer."""
        return []

    def read_tap(self, tap_BCYX: Tensor) -> Tensor:
        """Last tap, as `DenseCLIP.taps` gives it -> the joint space (B, P, D), not normalised."""
        return self.head(tap_BCYX.flatten(2).mT)

    def rotate(self, heads_BhND: Tensor, sequence: Sequence) -> Tensor:
        """Rotary positions on queries or keys; trunks without them return the heads as they are."""
        return heads_BhND

    def positions(self, table_NC: Tensor, grid: tuple[int, int]) -> Tensor:
        """The tower's position table (1 + P, C) on another grid."""
        return resize_position_table(table_NC, native_grid=self.native_grid, grid=grid, by=self.resize_positions_by)

    def grid_of(self, images_B3HW: Tensor) -> tuple[int, int]:
        """Rows and columns of the patches of these images.

        Raises:
            ValueError: The images are not (B, 3, H, W) or a side is not a multiple of the patch.
        """
        if images_B3HW.ndim != 4 or images_B3HW.shape[1] != 3:
            raise ValueError(
                f"images must be (B, 3, H, W), got {tuple(images_B3HW.shape)}; stack them with torch.stack"
            )
        height, width = images_B3HW.shape[-2:]
        patch = self.patch_size
        if height % patch or width % patch or not height or not width:
            fit = tuple(max(patch, round(side / patch) * patch) for side in (height, width))
            raise ValueError(
                f"images of {height} x {width} pixels do not divide into patches of {patch}; "
                f"resize or pad them to {fit[0]} x {fit[1]}"
            )
        return height // patch, width // patch

    def forward_blocks(self, sequence: Sequence, blocks: nn.ModuleList | list[nn.Module]) -> Sequence:
        """Runs stock blocks one after another, recomputing activations in the backward pass where asked to."""
        for block in blocks:
            sequence = sequence.with_tokens(self.forward_block(block, sequence))
        return sequence

    def forward_block(self, block: nn.Module, sequence: Sequence) -> Tensor:
        """One stock block, under activation checkpointing where asked to."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            tokens: Tensor = checkpoint(self.run_block, block, sequence, use_reentrant=False)
            return tokens
        return self.run_block(block, sequence)

    def pool_class_token(self, sequence: Sequence) -> Tensor:
        """The last block and the head for the class token alone: every other query would be thrown away.

        Returns:
            Embeddings (B, D), not normalised; equal to the stock tower's up to rounding.
        """
        block = self.blocks[-1]
        tokens = sequence.tokens
        normed = self.norm_attention(block, tokens)
        query = self.rotate(self.project(block, normed[:, :1], "q"), sequence)
        key = self.rotate(self.project(block, normed, "k"), sequence)
        mixed = F.scaled_dot_product_attention(query, key, self.project(block, normed, "v"))
        class_B1C = tokens[:, :1] + self.merge_heads(block, join_heads(mixed))
        class_B1C = class_B1C + self.feed_forward(block, class_B1C)
        return self.head(class_B1C)[:, 0]


def split_heads(tokens_BNC: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) -> (B, h, N, C / h)."""
    return tokens_BNC.reshape(*tokens_BNC.shape[:2], num_heads, -1).transpose(1, 2)


def join_heads(heads_BhND: Tensor) -> Tensor:
    """(B, h, N, C / h) -> (B, N, C)."""
    return heads_BhND.transpose(1, 2).flatten(2)
