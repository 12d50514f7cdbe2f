"""The transformer of Deformable DETR: levels mixed by an encoder, boxes proposed by it, queries refined layer by layer.

Source: Deformable DETR (arXiv:2010.04159), with the parameter names that it published.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.layers.deformable_attention import DeformableAttention, Grid
from clipself.layers.pixel_decoder import DeformableLayer, FeedForward, cell_centres
from clipself.layers.sine_positions import padded_sine_positions, sine_waves
from clipself.ops.boxes import inverse_sigmoid

INSIDE = (0.01, 0.99)
"""Default boxes with a coordinate outside these are no proposals."""
DEFAULT_SIDE = 0.05
"""Side of the default boxes on the finest level, in shares of the picture; each next level doubles it."""
LOGIT_EPS = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What the encoder makes of all levels.

    Attributes:
        tokens_BSC: The levels, flattened row by row, one after another.
        padding_BS: True where a token lies outside its picture.
        grids: Rows and columns of each level.
        filled_BL2: Width and height that the picture fills of each level, in shares of it.
    """

    tokens_BSC: Tensor
    padding_BS: Tensor
    grids: tuple[Grid, ...]
    filled_BL2: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Queries:
    """What the decoder starts from.

    Attributes:
        contents_BQC: What they hold.
        positions_BQC: Added to what looks, and never to what is looked at.
        references: Centres (B, Q, 2) or boxes `cxcywh` (B, Q, 4), in shares of the picture.
    """

    contents_BQC: Tensor
    positions_BQC: Tensor
    references: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """What one layer of the decoder makes of the queries.

    Attributes:
        hidden_BQC: Its output.
        boxes_BQ4: What the detector's head makes of it: `cxcywh` in shares of the picture.
    """

    hidden_BQC: Tensor
    boxes_BQ4: Tensor


class DecoderLayer(FeedForward):
    """Self-attention, deformable attention, feed-forward, norms after each; norms are numbered by their origin.

    Args:
        channels: Width.
        heads: Attention heads.
        levels: Maps.
        points: Places on each map.
        hidden: Width inside the feed-forward.
        dropout: Share of what is added that is dropped in training, and of attention weights.
    """

    def __init__(
        self, *, channels: int, heads: int, levels: int, points: int, hidden: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.cross_attn = DeformableAttention(channels=channels, heads=heads, levels=levels, points=points)
        self.norm1 = nn.LayerNorm(channels)
        self.self_attn = nn.MultiheadAttention(channels, heads, dropout=dropout, batch_first=True)
        self.norm2 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(
        self,
        queries_BQC: Tensor,
        positions_BQC: Tensor,
        references_BQL: Tensor,
        memory: Memory,
        *,
        copies: int = 1,
        prompts_BPC: Tensor | None = None,
    ) -> Tensor:
        """One layer.

        Args:
            queries_BQC: The queries, copy after copy.
            positions_BQC: Theirs.
            references_BQL: Where they look, for each level (B, Q, L, 2 or 4).
            memory: What they look at.
            copies: Sets of queries that do not see one another.
            prompts_BPC: What every query may look at beside the queries of its copy.
        """
        seen = attend(self.self_attn, queries_BQC, positions_BQC, copies=copies, prompts_BPC=prompts_BPC)
        queries_BQC = self.norm2(queries_BQC + self.dropout(seen))
        read = self.cross_attn(
            queries_BQC + positions_BQC, references_BQL, memory.tokens_BSC, memory.grids, padding_BS=memory.padding_BS
        )
        return self.feed(self.norm1(queries_BQC + self.dropout(read)), self.norm3)


def attend(
    attention: nn.MultiheadAttention,
    queries_BQC: Tensor,
    positions_BQC: Tensor | None = None,
    *,
    copies: int = 1,
    prompts_BPC: Tensor | None = None,
) -> Tensor:
    """Queries look at the queries of their own copy, and at prompts; see `DecoderLayer.forward`."""
    batch, count, channels = queries_BQC.shape
    apart = (batch * copies, count // copies, channels)
    values = queries_BQC.reshape(apart)
    asked = values if positions_BQC is None else values + positions_BQC.reshape(apart)
    keys = asked
    if prompts_BPC is not None:
        shown = prompts_BPC.repeat_interleave(copies, dim=0)
        keys, values = torch.cat([shown, keys], dim=1), torch.cat([shown, values], dim=1)
    seen: Tensor = attention(asked, keys, values, need_weights=False)[0]
    return seen.reshape(batch, count, channels)


class DeformableTransformer(nn.Module):
    """Encoder, proposals and decoder; the heads are the detector's.

    Args:
        channels: Width.
        heads: Attention heads.
        encoder_layers: Layers over the levels.
        decoder_layers: Layers over the queries.
        hidden: Width inside the feed-forward.
        levels: Maps.
        encoder_points: Places that a token looks at on each map.
        decoder_points: Places that a query looks at on each map.
        dropout: In training.
        two_stage: Whether queries start from the encoder's proposals, and not from learned ones.
    """

    def __init__(
        self,
        *,
        channels: int = 256,
        heads: int = 8,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        hidden: int = 1024,
        levels: int = 4,
        encoder_points: int = 4,
        decoder_points: int = 4,
        dropout: float = 0.1,
        two_stage: bool = True,
    ) -> None:
        super().__init__()
        shared = {"channels": channels, "heads": heads, "levels": levels, "hidden": hidden}
        self.channels, self.two_stage = channels, two_stage
        self.level_embed = nn.Parameter(torch.randn(levels, channels))
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.layers = nn.ModuleList(
            DeformableLayer(**shared, points=encoder_points, dropout=dropout) for _ in range(encoder_layers)
        )
        self.decoder.layers = nn.ModuleList(
            DecoderLayer(**shared, points=decoder_points, dropout=dropout) for _ in range(decoder_layers)
        )
        if two_stage:
            self.enc_output = nn.Linear(channels, channels)
            self.enc_output_norm = nn.LayerNorm(channels)
            self.pos_trans = nn.Linear(2 * channels, 2 * channels)
            self.pos_trans_norm = nn.LayerNorm(2 * channels)
        else:
            self.reference_points = nn.Linear(channels, 2)
            nn.init.zeros_(self.reference_points.bias)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and "sampling_offsets" not in name and "attention_weights" not in name:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.level_embed)

    def encode(self, maps: Sequence[Tensor], padding: Sequence[Tensor]) -> Memory:
        """Mixes the levels.

        Args:
            maps: (B, C, Y, X), finest first.
            padding: For each map (B, Y, X), True where a cell lies outside its picture.
        """
        grids: tuple[Grid, ...] = tuple((one.shape[-2], one.shape[-1]) for one in maps)
        tokens = torch.cat([one.flatten(2).mT for one in maps], dim=1)
        positions = torch.cat(
            [
                padded_sine_positions(outside, self.channels).flatten(2).mT + embedding
                for outside, embedding in zip(padding, self.level_embed, strict=True)
            ],
            dim=1,
        )
        padding_BS = torch.cat([outside.flatten(1) for outside in padding], dim=1)
        filled_BL2 = torch.stack([_filled(outside) for outside in padding], dim=1)
        centres_BSL2 = _centres(grids, filled_BL2)[:, :, None] * filled_BL2[:, None]
        for layer in self.encoder.layers:  # type: ignore[union-attr]
            tokens = layer(tokens, positions, centres_BSL2, grids, padding_BS=padding_BS)
        return Memory(tokens_BSC=tokens, padding_BS=padding_BS, grids=grids, filled_BL2=filled_BL2)

    def candidates(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Features (B, S, C) of the tokens as proposals, and log-odds (B, S, 4) of their default boxes.

        Tokens outside their picture or with a default box at its border share one feature, and a box beyond all.
        """
        centres = _centres(memory.grids, memory.filled_BL2)
        sides = [
            centres.new_full((rows * cols,), DEFAULT_SIDE * 2.0**level)
            for level, (rows, cols) in enumerate(memory.grids)
        ]
        boxes_BS4 = torch.cat([centres, torch.cat(sides)[None, :, None].expand_as(centres)], dim=-1)
        outside = ((boxes_BS4 <= INSIDE[0]) | (boxes_BS4 >= INSIDE[1])).any(-1) | memory.padding_BS
        logits_BS4 = torch.logit(boxes_BS4).masked_fill(outside[..., None], float("inf"))
        features = self.enc_output(memory.tokens_BSC.masked_fill(outside[..., None], 0.0))
        return self.enc_output_norm(features), logits_BS4

    def queries_of(self, boxes_BQ4: Tensor) -> Queries:
        """Queries that start from proposals in shares of the picture; no gradient reaches these."""
        waves = sine_waves(boxes_BQ4.detach(), self.channels // 2).flatten(2)
        positions, contents = self.pos_trans_norm(self.pos_trans(waves)).chunk(2, dim=-1)
        return Queries(contents_BQC=contents, positions_BQC=positions, references=boxes_BQ4.detach())

    def learned_queries(self, embeddings_Q2C: Tensor, *, batch: int) -> Queries:
        """Learned queries, position and content side by side."""
        positions, contents = embeddings_Q2C.expand(batch, -1, -1).chunk(2, dim=-1)
        references = self.reference_points(positions).sigmoid()
        return Queries(contents_BQC=contents, positions_BQC=positions, references=references)

    def decode(
        self,
        queries: Queries,
        memory: Memory,
        *,
        head: Callable[[int, Tensor, Tensor], Tensor],
        refine: bool = True,
        copies: int = 1,
        prompts_BPC: Tensor | None = None,
    ) -> list[Decoded]:
        """Runs the layers.

        Args:
            queries: What they start from.
            memory: What they look at.
            head: (layer, its output, references) -> boxes (B, Q, 4), `cxcywh` in [0, 1].
            refine: Whether the next layer looks from these boxes, and not from where the first one did.
            copies: See `DecoderLayer.forward`.
            prompts_BPC: See there.
        """
        hidden, references, decoded = queries.contents_BQC, queries.references, []
        for index, layer in enumerate(self.decoder.layers):  # type: ignore[arg-type]
            filled = memory.filled_BL2.repeat(1, 1, references.shape[-1] // 2)
            places = references[:, :, None] * filled[:, None]
            hidden = layer(hidden, queries.positions_BQC, places, memory, copies=copies, prompts_BPC=prompts_BPC)
            decoded.append(Decoded(hidden_BQC=hidden, boxes_BQ4=head(index, hidden, references)))
            if refine:
                references = decoded[-1].boxes_BQ4.detach()
        return decoded


def move_boxes(steps_BQ4: Tensor, references: Tensor) -> Tensor:
    """Steps of log-odds from references, centres or boxes in [0, 1] -> boxes in [0, 1]."""
    logits = inverse_sigmoid(references, eps=LOGIT_EPS)
    return (steps_BQ4 + F.pad(logits, (0, 4 - logits.shape[-1]))).sigmoid()


def _filled(padding_BYX: Tensor) -> Tensor:
    """Width and height that the picture fills (B, 2), in shares of the map."""
    inside = (~padding_BYX).float()
    return torch.stack([inside[:, 0].mean(-1), inside[:, :, 0].mean(-1)], dim=-1)


def _centres(grids: Sequence[Grid], filled_BL2: Tensor) -> Tensor:
    """Centres of all cells in shares of the picture (B, S, 2), `xy`."""
    centres = [
        cell_centres(grid, like=filled_B2) / filled_B2[:, None]
        for grid, filled_B2 in zip(grids, filled_BL2.unbind(1), strict=True)
    ]
    return torch.cat(centres, dim=1)
