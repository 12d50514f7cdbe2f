"""A deformable DETR without its trunk: the parts that do not know what its queries are asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.layers.deformable_transformer import DeformableTransformer, Memory, Queries, move_boxes
from clipself.layers.pixel_decoder import GROUPS
from clipself.layers.pointwise_mlp import PointwiseMLP

RARE = -math.log((1 - 0.01) / 0.01)
"""Bias of the class head at first: one query in a hundred holds something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxSet:
    """What one layer predicts.

    Attributes:
        logits_BN: Whether a query holds anything, or what it was asked for (B, N); where there are conditions, N counts
            conditions x queries, condition by condition.
        boxes_BN4: `cxcywh` in shares of the picture.
        embeddings_BND: What it looks like in the joint space, not normalised; None for the encoder's proposals.
    """

    logits_BN: Tensor
    boxes_BN4: Tensor
    embeddings_BND: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """What does not depend on what is asked for.

    Attributes:
        memory: Of the encoder.
        queries: What the decoder starts from.
        proposals: A class-free box and its logit of every token; None where queries are learned.
    """

    memory: Memory
    queries: Queries
    proposals: BoxSet | None


class DeformableDetr(nn.Module):
    """Source: Deformable DETR (arXiv:2010.04159), by its names; the sizes are OV-DETR's (arXiv:2203.11876).

    Beside each box stands an embedding of what it holds, as in OV-DETR.

    Args:
        widths: Channels of the trunk's maps, finest first.
        joint_dim: Width of the embeddings.
        channels: Width inside; a multiple of 32.
        heads: Attention heads.
        encoder_layers: Layers over the levels.
        decoder_layers: Layers over the queries.
        hidden: Width inside the feed-forward.
        levels: Maps that are looked at; those beyond the trunk's are halved from its last.
        encoder_points: Places that a token looks at on each map.
        decoder_points: Places that a query looks at on each map.
        queries: Of each condition.
        dropout: In training.
        two_stage: Whether queries start from the encoder's proposals.
        refine: Whether each layer moves the boxes of the one before it, with heads of its own.

    Raises:
        ValueError: The levels are fewer than the maps, the width is no multiple of 32, or two stages do not refine.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        joint_dim: int,
        channels: int = 256,
        heads: int = 8,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        hidden: int = 1024,
        levels: int = 4,
        encoder_points: int = 4,
        decoder_points: int = 4,
        queries: int = 300,
        dropout: float = 0.1,
        two_stage: bool = True,
        refine: bool = True,
    ) -> None:
        super().__init__()
        if levels < len(widths) or channels % GROUPS:
            raise ValueError(
                f"levels={levels} for {len(widths)} maps and channels={channels}: expected at least as many levels as "
                f"maps, and a multiple of {GROUPS}"
            )
        if two_stage and not refine:
            raise ValueError("two_stage needs refine: the proposals' heads are one more set of the layers' own")
        self.num_queries, self.num_layers, self.refine = queries, decoder_layers, refine
        self.input_proj = nn.ModuleList(_projections(widths, channels, levels))
        self.transformer = DeformableTransformer(
            channels=channels, heads=heads, encoder_layers=encoder_layers, decoder_layers=decoder_layers,
            hidden=hidden, levels=levels, encoder_points=encoder_points, decoder_points=decoder_points,
            dropout=dropout, two_stage=two_stage,
        )  # fmt: skip
        layers = decoder_layers if refine else 1  # one set of heads for all layers where boxes are not refined
        sets = layers + two_stage
        self.class_embed = nn.ModuleList(nn.Linear(channels, 1) for _ in range(sets))
        self.bbox_embed = nn.ModuleList(PointwiseMLP(channels, channels, channels, 4) for _ in range(sets))
        self.feature_align = nn.ModuleList(nn.Linear(channels, joint_dim) for _ in range(layers))
        self.query_embed = None if two_stage else nn.Embedding(queries, 2 * channels)
        self._start(two_stage)

    @torch.no_grad()
    def _start(self, two_stage: bool) -> None:
        for linear in self.class_embed:
            nn.init.constant_(linear.bias, RARE)  # type: ignore[arg-type]
        for index, box in enumerate(self.bbox_embed):
            last: Any = box.layers[-1]  # type: ignore[index]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            if not two_stage and index == 0:
                last.bias[2:] = -2.0
        for linear in self.feature_align:
            nn.init.xavier_uniform_(linear.weight)  # type: ignore[arg-type]
            nn.init.zeros_(linear.bias)  # type: ignore[arg-type]

    def levels_of(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The trunk's maps in the width of the transformer, and those beyond, halved from the last map itself."""
        levels: list[Tensor] = []
        for index, project in enumerate(self.input_proj):
            below = maps[index] if index < len(maps) else maps[-1] if index == len(maps) else levels[-1]
            levels.append(project(below))
        return levels

    def encode(self, maps: Sequence[Tensor], padding_BHW: Tensor) -> Encoded:
        """All that does not depend on what is asked for.

        Args:
            maps: Of the trunk, finest first.
            padding_BHW: True where a pixel lies outside its picture.
        """
        levels = self.levels_of(maps)
        padding = [
            F.interpolate(padding_BHW[:, None].float(), size=level.shape[-2:])[:, 0].bool()  # nearest, as published
            for level in levels
        ]
        memory = self.transformer.encode(levels, padding)
        if self.query_embed is not None:
            queries = self.transformer.learned_queries(self.query_embed.weight, batch=padding_BHW.shape[0])
            return Encoded(memory=memory, queries=queries, proposals=None)
        features_BSC, defaults_BS4 = self.transformer.candidates(memory)
        logits_BS = self.class_embed[-1](features_BSC)[..., 0]
        boxes_BS4 = (self.bbox_embed[-1](features_BSC) + defaults_BS4).sigmoid()
        # Tokens at the border share one logit: a stable order takes the first of them, on any machine.
        best_BQ = logits_BS.detach().argsort(dim=1, descending=True, stable=True)[:, : self.num_queries]
        boxes_BQ4 = boxes_BS4.gather(1, best_BQ[..., None].expand(-1, -1, 4))
        proposals = BoxSet(logits_BN=logits_BS, boxes_BN4=boxes_BS4)
        return Encoded(memory=memory, queries=self.transformer.queries_of(boxes_BQ4), proposals=proposals)

    def boxes_of(self, index: int, hidden_BQC: Tensor, references: Tensor) -> Tensor:
        """A layer's boxes: its steps from where it looked."""
        return move_boxes(self.bbox_embed[self.head_of(index)](hidden_BQC), references)

    def head_of(self, layer: int) -> int:
        """Which set of heads is a layer's."""
        return layer if self.refine else 0


def _projections(widths: Sequence[int], channels: int, levels: int) -> list[nn.Module]:
    made: list[nn.Module] = [_normed(nn.Conv2d(width, channels, 1)) for width in widths]
    for index in range(levels - len(widths)):
        width = channels if index else widths[-1]
        made.append(_normed(nn.Conv2d(width, channels, 3, stride=2, padding=1)))
    return made


def _normed(conv: nn.Conv2d) -> nn.Module:
    nn.init.xavier_uniform_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.GroupNorm(GROUPS, conv.out_channels))
