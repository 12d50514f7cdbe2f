"""What a readout may look at: the last blocks of a trunk with queries, keys and values apart, the images, a guide."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor, nn

from clipself.backbones.tokens import Tokens


class Attention(Protocol):
    """What a readout needs of a trunk: blocks whose attention comes apart."""

    blocks: nn.ModuleList
    gates: Tensor | None

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
        at: Which block is the last one here, counted from the end of the trunk; -1 but for a readout that walks along.
        images_B3HW: The normalised images.
        guide_BCyx: Features for the same images, on a grid of their own; another model's, or else what entered the
            last block.
    """

    trunk: Attention
    entered: tuple[Tokens, ...]
    images_B3HW: Tensor
    guide_BCyx: Tensor
    at: int = -1

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
        module, tokens = self.trunk.blocks[self.at + 1 + block], self.entered[block]
        projected = self.trunk.project(module, self.trunk.norm_attention(module, tokens.tokens), part)
        return projected if part == "v" else self.trunk.rotate(projected, tokens)

    def normed(self) -> Tensor:
        """What the last block's attention is given: its tokens after the norm ahead of it (B, N, C)."""
        return self.trunk.norm_attention(self.trunk.blocks[self.at], self.tokens.tokens)

    def along(self) -> Iterator["ReadoutContext"]:
        """The same view from one block after another, the first of those that are looked back at first."""
        for ahead in range(len(self.entered) - 1, -1, -1):
            seen = self.entered[: len(self.entered) - ahead]
            yield replace(self, entered=seen, at=self.at - ahead)


Mix = Callable[..., Tensor]
"""Given a `ReadoutContext` and options by keyword, the mixed values (B, h, N, d)."""
