"""Trunks of blocks: tokens run through them one by one, and readouts mix the last one's values their own way."""

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clipself.backbones.readouts import Readout, ReadoutContext, read_last_block
from clipself.backbones.tokens import Tokens, join_heads, to_map
from clipself.backbones.trunk import ClipReading, PoolsBy, Trunk
from clipself.ops.positions import resize_position_table


class TransformerTrunk(Trunk):
    """A vision transformer, block by block, with queries, keys and values apart.

    A tower that pools by attention has its last attention in the pool. The dense map takes that by values, patch by
    patch, whatever the readout, which mixes the last block; so that "value", the last attention by values, leaves that
    block as it was trained. Source: MaskCLIP (arXiv:2112.01071), which does so with CLIP's ResNets.

    Attributes:
        blocks: The stock blocks.
        num_heads: Heads of their attention.
        head_dim: Width of a head.
        resize_positions_by: See `resize_position_table`, as for the next.
        position_offset: In patches.
    """

    has_class_token = True
    pools_by: PoolsBy = "class token"
    first_tap = -1
    registers = 0
    """Tokens that stand between the class token and the patches."""
    blocks: nn.ModuleList
    num_heads: int
    head_dim: int

    def __init__(self) -> None:
        super().__init__()
        self.resize_positions_by: Literal["size", "scale_factor"] = "size"
        self.position_offset = 0.1

    # --- what a family says

    @abstractmethod
    def embed(self, images_B3HW: Tensor, positions: Tensor | None = None) -> Tokens:
        """Patches, class token and positions: what enters the first block.

        Args:
            images_B3HW: Normalised images.
            positions: What is added in place of the tower's own table on the grid of the images, (N, C) or a table of
                each image's own (B, N, C).
        """

    def run_block(self, block: nn.Module, tokens: Tokens) -> Tensor:
        """The stock block, attention included."""
        out: Tensor = block(tokens.tokens)
        return out

    def norm_attention(self, block: Any, tokens_BNC: Tensor) -> Tensor:
        """The norm ahead of a block's attention, which most libraries call `norm1`."""
        normed: Tensor = block.norm1(tokens_BNC)
        return normed

    @abstractmethod
    def project(self, block: nn.Module, normed_BNC: Tensor, part: str) -> Tensor:
        """Queries ("q"), keys ("k") or values ("v") as heads (B, h, N, C / h), without rotary positions."""

    @abstractmethod
    def merge_heads(self, block: nn.Module, mixed_BNC: Tensor) -> Tensor:
        """What follows the mixing of values: inner norm where there is one, output projection, layer scale."""

    def merge_gated(self, block: nn.Module, mixed_BNC: Tensor, gates_C: Tensor) -> Tensor:
        """`merge_heads`, each channel weighted right ahead of the output projection."""
        return self.merge_heads(block, mixed_BNC * gates_C)

    @abstractmethod
    def feed_forward(self, block: nn.Module, tokens_BNC: Tensor) -> Tensor:
        """Norm, feed-forward and layer scale, without the residual."""

    @abstractmethod
    def final_norm(self, tokens_BNC: Tensor) -> Tensor:
        """What follows the last block ahead of the projection, for every token."""

    @abstractmethod
    def head(self, tokens_BNC: Tensor) -> Tensor:
        """Final norm and projection to the joint space, for every token."""

    def pool_tokens(self, tokens_BNC: Tensor, *, prefix: int) -> Tensor:
        """What leaves the last block -> embeddings (B, D), by a tower's own attention or mean; with the final norm.

        Args:
            tokens_BNC: Tokens.
            prefix: How many of them stand ahead of the patches.
        """
        raise NotImplementedError

    @property
    @abstractmethod
    def position_table(self) -> nn.Parameter:
        """The learnt positions of class token and patches."""

    def rotate(self, heads_BhND: Tensor, tokens: Tokens) -> Tensor:
        """Rotary positions on queries or keys; trunks without them return the heads as they are."""
        return heads_BhND

    # --- what follows from it

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def parts(self) -> Sequence[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def read(
        self,
        images_B3HW: Tensor,
        *,
        taps: Sequence[int],
        dense: bool,
        pooled: bool,
        readout: Readout,
        guide: Tensor | None = None,
    ) -> ClipReading:
        """One pass through as many blocks as are needed; the last one runs as the readout says."""
        tokens, last = self.embed(images_B3HW), self.depth - 1
        ahead = last if dense or pooled else min(last, max(taps) + 1)
        maps = {-1: tokens.to_map()} if -1 in taps else {}
        entered = deque([tokens], maxlen=readout.reach(self))
        for index in range(ahead):
            tokens = tokens.with_tokens(self.forward_block(self.blocks[index], tokens))
            entered.append(tokens)
            if index in taps:
                maps[index] = tokens.to_map()
        embedded = None
        if dense or last in taps:
            context = ReadoutContext(
                trunk=self,
                entered=tuple(entered),
                images_B3HW=images_B3HW,
                guide_BCyx=tokens.to_map() if guide is None else guide,
            )
            if self.pools_by == "attention" and readout.is_value:
                read = tokens.with_tokens(self.forward_block(self.blocks[-1], tokens))
            else:
                read = read_last_block(context, readout)
            maps[last] = read.to_map()
            embedded = to_map(self.head(read.tokens[:, read.prefix :]), read.grid) if dense else None
        return ClipReading(
            taps=tuple(maps[index] for index in taps),
            dense=embedded,
            pooled=self.pool(tokens) if pooled else None,
            tokens=tokens,
        )

    def read_tap(self, tap_BCYX: Tensor) -> Tensor:
        """Final norm and projection of the last tap."""
        return to_map(self.head(tap_BCYX.flatten(2).mT), (tap_BCYX.shape[2], tap_BCYX.shape[3]))

    def pool_map(self, map_BCYX: Tensor) -> Tensor:
        """The tower's attention or mean over any map of the last tap -> (B, D)."""
        if self.pools_by == "class token":
            return super().pool_map(map_BCYX)
        return self.pool_tokens(map_BCYX.flatten(2).mT, prefix=0)

    def positions(self, table_NC: Tensor, grid: tuple[int, int], *, prefix: int = 1) -> Tensor:
        """The tower's position table (prefix + P, C) on another grid."""
        return resize_position_table(
            table_NC,
            native_grid=self.native_grid,
            grid=grid,
            prefix=prefix,
            by=self.resize_positions_by,
            offset=self.position_offset,
        )

    def forward_blocks(self, tokens: Tokens, blocks: Sequence[nn.Module]) -> Tokens:
        """Runs stock blocks one after another, recomputing activations in the backward pass where asked to."""
        for block in blocks:
            tokens = tokens.with_tokens(self.forward_block(block, tokens))
        return tokens

    def forward_block(self, block: nn.Module, tokens: Tokens) -> Tensor:
        """One stock block, under activation checkpointing where asked to."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(self.run_block, block, tokens, use_reentrant=False)
            return out
        return self.run_block(block, tokens)

    def pool(self, entered: Tokens) -> Tensor:
        """The last block and the head for the class token alone: every other query would be thrown away.

        Towers that pool by attention or mean need all of the last block.

        Args:
            entered: What enters the last block.

        Returns:
            Embeddings (B, D), not normalised; equal to the stock tower's up to rounding.
        """
        if self.pools_by != "class token":
            return self.pool_tokens(self.forward_block(self.blocks[-1], entered), prefix=entered.prefix)
        block, tokens = self.blocks[-1], entered.tokens
        normed = self.norm_attention(block, tokens)
        query = self.rotate(self.project(block, normed[:, :1], "q"), entered)
        key = self.rotate(self.project(block, normed, "k"), entered)
        mixed = F.scaled_dot_product_attention(query, key, self.project(block, normed, "v"))
        class_B1C = tokens[:, :1] + self.merge_heads(block, join_heads(mixed))
        class_B1C = class_B1C + self.feed_forward(block, class_B1C)
        return self.head(class_B1C)[:, 0]

    def run_biased(self, block: nn.Module, joined_BNC: Tensor, tokens: Tokens, bias: Tensor) -> Tensor:
        """One block for copies of the class token ahead of the ordinary tokens, under an additive mask.

        Rotary positions belong to the ordinary tokens; copies stand nowhere, as the class token does. Source: SAN
        (arXiv:2302.12242) and MaskCLIP with mask tokens (arXiv:2208.08984).

        Args:
            block: One of `blocks`.
            joined_BNC: Q copies, then the ordinary tokens.
            tokens: The ordinary tokens' grid and positions.
            bias: Added to the attention logits (B, 1 or h, N, N), N = Q + 1 + P.

        Returns:
            Tokens (B, N, C).
        """
        copies = joined_BNC.shape[1] - tokens.tokens.shape[1]

        def rotated(part: str) -> Tensor:
            heads = self.project(block, normed, part)
            return torch.cat([heads[:, :, :copies], self.rotate(heads[:, :, copies:], tokens)], dim=2)

        normed = self.norm_attention(block, joined_BNC)
        value = self.project(block, normed, "v")
        mixed = F.scaled_dot_product_attention(rotated("q"), rotated("k"), value, attn_mask=bias)
        joined_BNC = joined_BNC + self.merge_heads(block, join_heads(mixed))
        return joined_BNC + self.feed_forward(block, joined_BNC)


class HasTrunk(Protocol):
    """What `require_blocks` asks of a CLIP."""

    name: str

    @property
    def trunk(self) -> Trunk:
        """The view of its vision tower."""


def require_blocks(clip: HasTrunk, purpose: str, *, registers: bool = False) -> TransformerTrunk:
    """The trunk of a CLIP, for what runs blocks and class token by itself.

    Args:
        clip: The CLIP.
        purpose: What asks, for the message.
        registers: Whether tokens between class token and patches are welcome.

    Raises:
        ValueError: The trunk has no blocks of tokens whose class token becomes the image embedding.
    """
    trunk = clip.trunk
    if not isinstance(trunk, TransformerTrunk) or trunk.pools_by != "class token":
        strides = ", ".join(str(stage.stride) for stage in trunk.stages)
        has = "blocks" if isinstance(trunk, TransformerTrunk) else f"stages of strides {strides}"
        raise ValueError(
            f"{purpose} needs a trunk of transformer blocks with a class token that is the image embedding, such as "
            f"ViT-B-16; {clip.name} has {has} and pools by {trunk.pools_by}"
        )
    if trunk.registers and not registers:
        raise ValueError(f"{purpose} knows a class token and patches alone; {clip.name} has registers between them")
    return trunk
