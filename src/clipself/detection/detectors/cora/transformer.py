"""CORA's localiser, the transformer in it: encoder of one map, decoder of boxes that name themselves.

Source: DAB-DETR (arXiv:2201.12329); what differs is released CORA's: PReLU, one shared scale of the encoder's places.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clipself.detection.detectors.cora.attention import DecoderLayer, FeedForward
from clipself.layers.deformable_attention import DeformableAttention
from clipself.layers.pointwise_mlp import PointwiseMLP
from clipself.layers.sine_positions import sine_waves
from clipself.ops.boxes import inverse_sigmoid

REFINE_EPS, PREDICT_EPS = 1e-3, 1e-5
"""Nearest that a share comes to 0 and 1 where a layer's box starts the next layer's, and where it is what is told."""
POINTS = 4
"""Places that the deformable encoder looks at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """An encoded map, cells row by row.

    Attributes:
        cells_BNC: What the encoder made of it.
        places_BNC: Sines of the cells.
        padding_BN: True where a cell is padding.
        grid: Rows and columns.
    """

    cells_BNC: Tensor
    places_BNC: Tensor
    padding_BN: Tensor
    grid: tuple[int, int]

    def repeated(self, times: int) -> "Memory":
        """The batch once more and once more."""
        cells, places, padding = (
            one.repeat(times, *[1] * (one.ndim - 1)) for one in (self.cells_BNC, self.places_BNC, self.padding_BN)
        )
        return Memory(cells_BNC=cells, places_BNC=places, padding_BN=padding, grid=self.grid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """One layer's queries.

    Attributes:
        hidden_BQC: After the shared norm.
        start_BQ4: Box that the layer began with, with gradient to the layer before.
        boxes_BQ4: What it tells, `cxcywh` in [0, 1].
    """

    hidden_BQC: Tensor
    start_BQ4: Tensor
    boxes_BQ4: Tensor


class EncoderLayer(FeedForward):
    """Cells look at all cells, or at a few places around each."""

    def __init__(self, width: int, hidden: int, *, heads: int, dropout: float, deformable: bool) -> None:
        super().__init__(width, hidden, dropout=dropout)
        self.self_attn = (
            DeformableAttention(channels=width, heads=heads, levels=1, points=POINTS)
            if deformable
            else nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        )
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, cells_BNC: Tensor, places_BNC: Tensor, padding_BN: Tensor, grid: tuple[int, int]) -> Tensor:
        """One layer; padding is not looked at."""
        placed = cells_BNC + places_BNC
        if isinstance(self.self_attn, DeformableAttention):
            mixed = self.self_attn(placed, cell_centres(grid, like=placed), cells_BNC, [grid], padding_BS=padding_BN)
        else:
            mixed = self.self_attn(placed, placed, cells_BNC, key_padding_mask=padding_BN, need_weights=False)[0]
        return self.feed(self.norm1(cells_BNC + self.dropout(mixed)), self.norm2)


class Encoder(nn.Module):
    """Layers whose places are scaled by one MLP of their content."""

    def __init__(self, width: int, hidden: int, *, layers: int, heads: int, dropout: float, deformable: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, hidden, heads=heads, dropout=dropout, deformable=deformable) for _ in range(layers)
        )
        self.query_scale = PointwiseMLP(width, width, width)

    def forward(self, cells_BNC: Tensor, places_BNC: Tensor, padding_BN: Tensor, grid: tuple[int, int]) -> Tensor:
        """Encoded cells (B, N, C)."""
        for layer in self.layers:
            cells_BNC = layer(cells_BNC, places_BNC * self.query_scale(cells_BNC), padding_BN, grid)
        return cells_BNC


class Decoder(nn.Module):
    """Boxes as queries: each layer looks around its box and moves it."""

    def __init__(self, width: int, hidden: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.waves = width // 2
        self.layers = nn.ModuleList(
            DecoderLayer(width, hidden, heads=heads, dropout=dropout, first=not place) for place in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.query_scale = PointwiseMLP(width, width, width)
        self.ref_point_head = PointwiseMLP(2 * width, width, width)
        self.ref_anchor_head = PointwiseMLP(width, width, 2)

    def forward(
        self, content_BQC: Tensor, boxes_BQ4: Tensor, memory: Memory, box_heads: Sequence[nn.Module]
    ) -> list[Decoded]:
        """All layers' queries, first layer first.

        A layer's box is told from its normed output and the box that it began with; the next layer begins with a box
        made of the output as it is, whose gradient is cut off ahead of the next embedding but not of what is told.

        Args:
            content_BQC: Queries.
            boxes_BQ4: Anchors, `cxcywh` in [0, 1].
            memory: Encoded map.
            box_heads: One a layer.
        """
        done, start_BQ4 = [], boxes_BQ4
        for place, (layer, head) in enumerate(zip(self.layers, box_heads, strict=True)):
            boxes_BQ4 = start_BQ4 if place == 0 else start_BQ4.detach()
            sines_BQS = sine_waves(boxes_BQ4[..., [1, 0, 2, 3]], self.waves).flatten(-2)  # y, x, width, height
            weighed = self._weigh(sines_BQS[..., : 2 * self.waves], content_BQC, boxes_BQ4, first=place == 0)
            content_BQC = layer(
                content_BQC, self.ref_point_head(sines_BQS), weighed, memory.cells_BNC, memory.places_BNC,
                memory.padding_BN,
            )  # fmt: skip
            hidden_BQC = self.norm(content_BQC)
            told = (head(hidden_BQC) + inverse_sigmoid(start_BQ4, eps=PREDICT_EPS)).sigmoid()
            done.append(Decoded(hidden_BQC=hidden_BQC, start_BQ4=start_BQ4, boxes_BQ4=told))
            start_BQ4 = (head(content_BQC) + inverse_sigmoid(boxes_BQ4, eps=REFINE_EPS)).sigmoid()
        return done

    def _weigh(self, sines_BQC: Tensor, content_BQC: Tensor, boxes_BQ4: Tensor, *, first: bool) -> Tensor:
        """Sines of the centre by content and by the sides of the box: rows by its height, columns by its width."""
        sides = self.ref_anchor_head(content_BQC).sigmoid() / boxes_BQ4[..., 2:]
        if not first:
            sines_BQC = sines_BQC * self.query_scale(content_BQC)
        rows, cols = sines_BQC[..., : self.waves], sines_BQC[..., self.waves :]
        return torch.cat([rows * sides[..., 1:], cols * sides[..., :1]], dim=-1)


class Transformer(nn.Module):
    """Encoder and decoder by the released names."""

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        encoder_layers: int,
        decoder_layers: int,
        heads: int,
        dropout: float,
        deformable: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(
            width, hidden, layers=encoder_layers, heads=heads, dropout=dropout, deformable=deformable
        )
        self.decoder = Decoder(width, hidden, layers=decoder_layers, heads=heads, dropout=dropout)
        apart = {
            id(parameter)
            for module in self.modules()
            if isinstance(module, DeformableAttention)
            for parameter in module.parameters()
        }
        for parameter in self.parameters():
            if parameter.ndim > 1 and id(parameter) not in apart:
                nn.init.xavier_uniform_(parameter)


def cell_centres(grid: tuple[int, int], *, like: Tensor) -> Tensor:
    """Centres (N, 2) of cells row by row, `xy` in [0, 1]."""
    rows, cols = grid
    y, x = ((torch.arange(length).to(like) + 0.5) / length for length in (rows, cols))
    return torch.stack([x.repeat(rows), y.repeat_interleave(cols)], dim=-1)
