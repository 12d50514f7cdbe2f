"""CORA's localiser: boxes and objectness of anchors that know which class they look for."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clipself.detection.detectors.cora.settings import CoraSettings
from clipself.detection.detectors.cora.transformer import REFINE_EPS, Memory, Transformer, cell_centres
from clipself.detection.region_prompt.regions import PaddedMap
from clipself.layers.pointwise_mlp import PointwiseMLP
from clipself.layers.sine_positions import padded_sine_positions
from clipself.ops.boxes import inverse_sigmoid

MAP_TEMPERATURE = 20.0
"""Of the sines of the cells."""
NEVER = -50.0
"""Objectness of padding; its chance is 0 in float32, and the losses stay finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """Boxes of one layer, or of the first stage.

    Attributes:
        logits_BQ: Objectness.
        boxes_BQ4: `cxcywh` in [0, 1].
    """

    logits_BQ: Tensor
    boxes_BQ4: Tensor


class Localiser(nn.Module):
    """Source: CORA (arXiv:2303.13076), Sec. 3.3; the released names.

    Args:
        channels: Of the map that it reads.
        text_dim: Of the embeddings of the names.
        settings: Its sizes.
    """

    def __init__(self, *, channels: int, text_dim: int, settings: CoraSettings) -> None:
        super().__init__()
        width = settings.width
        self.width, self.proposals = width, settings.first_stage
        self.transformer = Transformer(
            width, settings.hidden, encoder_layers=settings.encoder_layers, decoder_layers=settings.decoder_layers,
            heads=settings.heads, dropout=settings.dropout, deformable=settings.deformable_encoder,
        )  # fmt: skip
        self.input_proj = nn.ModuleList([nn.Sequential(nn.Conv2d(channels, width, kernel_size=1))])
        self.bbox_embed = nn.ModuleList(_box_head(width) for _ in range(settings.decoder_layers))
        self.objectness_embed = nn.Linear(width, 1)
        self.text_proj = PointwiseMLP(text_dim, settings.bottleneck, width)
        if self.proposals:
            self.stage1_box_embed, self.stage1_obj_embed = _box_head(width), nn.Linear(width, 1)
        else:
            self.query_embed = nn.Embedding(settings.queries, 4)

    def encode(self, inner: PaddedMap) -> Memory:
        """Runs the encoder over a CLIP's map."""
        projected = self.input_proj[0](inner.values)
        grid = (projected.shape[2], projected.shape[3])
        padding_BN = inner.padding_BYX.flatten(1)
        places = padded_sine_positions(inner.padding_BYX, self.width, temperature=MAP_TEMPERATURE)
        places_BNC = places.flatten(2).mT.to(projected).masked_fill(padding_BN[..., None], 0.0)
        cells_BNC = self.transformer.encoder(projected.flatten(2).mT, places_BNC, padding_BN, grid)
        return Memory(cells_BNC=cells_BNC, places_BNC=places_BNC, padding_BN=padding_BN, grid=grid)

    def anchors(self, memory: Memory, first: Predictions | None) -> Tensor:
        """Anchors (B, Q, 4), `cxcywh` in [0, 1]: learned ones, or the best of the first stage, best first."""
        if first is None:
            return self.query_embed.weight.sigmoid().expand(len(memory.cells_BNC), -1, -1)
        best_BQ = first.logits_BQ.topk(min(self.proposals, first.logits_BQ.shape[1]), dim=1).indices
        return first.boxes_BQ4.gather(1, best_BQ[..., None].expand(-1, -1, 4)).detach()

    def first_stage(self, memory: Memory) -> Predictions | None:
        """A box and its objectness of every cell; None where anchors are learned.

        Padding is never chosen, other than in the released code.
        """
        if not self.proposals:
            return None
        moved = self.stage1_box_embed(memory.cells_BNC).float()
        logits_BN = self.stage1_obj_embed(memory.cells_BNC)[..., 0].float()
        centres = cell_centres(memory.grid, like=moved)
        centres = inverse_sigmoid(moved[..., :2].sigmoid() - 0.5 + centres, eps=REFINE_EPS)
        boxes = torch.cat([centres, moved[..., 2:]], dim=-1).sigmoid()
        return Predictions(logits_BQ=logits_BN.masked_fill(memory.padding_BN, NEVER), boxes_BQ4=boxes)

    def decode(self, memory: Memory, anchors_BQ4: Tensor, texts_BQD: Tensor) -> list[Predictions]:
        """Every layer's predictions, the last layer's last.

        Args:
            memory: Encoded maps.
            anchors_BQ4: `cxcywh` in [0, 1].
            texts_BQD: Embedding of the name that each anchor looks for.
        """
        decoded = self.transformer.decoder(self.text_proj(texts_BQD), anchors_BQ4, memory, list(self.bbox_embed))
        return [
            Predictions(logits_BQ=self.objectness_embed(one.hidden_BQC)[..., 0].float(), boxes_BQ4=one.boxes_BQ4)
            for one in decoded
        ]


def _box_head(width: int) -> PointwiseMLP:
    """Three layers, the last of which says nothing at first."""
    head = PointwiseMLP(width, width, width, 4)
    for parameter in head.layers[-1].parameters():
        nn.init.zeros_(parameter)
    return head
