"""ODISE's mask generator behind its backbone: decoders, an embedding of pooled masks, and scores of names."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.layers.masked_decoder import MLP, MaskedDecoder, QueryState
from clipself.layers.pixel_decoder import PixelDecoder
from clipself.ops.pooling import pool_mask_logits
from clipself.panoptic.generators.mask_heads import (
    DecodingHeads,
    FoundMasks,
    ScoredMasks,
    new_logit_scale,
    scale_of,
    scored_with_void,
)
from clipself.panoptic.settings import OdiseSettings
from clipself.panoptic.text import class_logits
from clipself.structures import TextRows

Supervision = Literal["label", "caption"]
"""What the classes of masks are learnt from: labels of segments, or nouns of the picture's captions."""


class PooledMaskEmbed(nn.Module):
    """Embeds masks by what lies under them and by their queries.

    Source: ODISE (arXiv:2303.04803), released code with its parameter names.

    Args:
        channels: Width of the queries.
        mask_channels: Width of the mask features.
        embed_dim: Width of the embeddings.
    """

    def __init__(self, *, channels: int, mask_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.pool_proj = nn.Sequential(nn.LayerNorm(mask_channels), nn.Linear(mask_channels, channels))
        self.mask_embed = nn.Sequential(nn.LayerNorm(channels), MLP(channels, channels, channels, embed_dim))
        self.logit_scale = new_logit_scale()

    @property
    def scale(self) -> Tensor:
        """What cosines with names are multiplied with."""
        return scale_of(self.logit_scale)

    def pool(self, state: QueryState, mask_features: Tensor) -> Tensor:
        """Projected means (B, Q, C) of the features under the hard masks, each with its query."""
        pooled: Tensor = self.pool_proj(pool_mask_logits(mask_features, state.masks_BQYX))
        return pooled + state.queries_BQC

    def forward(self, state: QueryState, mask_features: Tensor) -> Tensor:
        """Embeddings (B, Q, D), any length."""
        embeddings: Tensor = self.mask_embed(self.pool(state, mask_features))
        return embeddings


class OdisePredictor(MaskedDecoder):
    """A masked decoder with a pooled embedding of each mask.

    Args:
        embed_dim: Width of these embeddings.
        objects: Whether a linear layer tells objects from nothing, as in the caption model.
        channels: Width of the queries.
        mask_channels: Width of the mask features.
        options: The rest of `MaskedDecoder`'s arguments.
    """

    def __init__(
        self, *, embed_dim: int, objects: bool, channels: int = 256, mask_channels: int = 256, **options: int
    ) -> None:
        super().__init__(channels=channels, mask_channels=mask_channels, **options)
        self.post_mask_embed = PooledMaskEmbed(channels=channels, mask_channels=mask_channels, embed_dim=embed_dim)
        self.class_embed = nn.Linear(channels, 2) if objects else None

    def predict(self, state: QueryState, mask_features: Tensor) -> FoundMasks:
        """One state of the queries as masks with embeddings."""
        return FoundMasks(
            masks_BQYX=state.masks_BQYX,
            embeddings_BQD=self.post_mask_embed(state, mask_features),
            objects_BQ2=None if self.class_embed is None else self.class_embed(state.queries_BQC),
        )


class WordHead(nn.Module):
    """Projects text to the space of mask embeddings: the caption model's.

    Args:
        text_dim: Width of the joint space of the CLIP whose text is projected.
        embed_dim: Width of mask embeddings.
    """

    def __init__(self, *, text_dim: int, embed_dim: int) -> None:
        super().__init__()
        self.text_proj = nn.Linear(text_dim, embed_dim)

    def forward(self, text: TextRows) -> TextRows:
        """Names -> the same names there, any length."""
        return TextRows(rows_SD=self.text_proj(text.rows_SD), counts=text.counts)


class CategoryHead(WordHead):
    """Projects text, and knows a learnt text for "no object": the label model's.

    Args:
        text_dim: Width of the joint space of the CLIP whose text is projected.
        embed_dim: Width of mask embeddings.
    """

    def __init__(self, *, text_dim: int, embed_dim: int) -> None:
        super().__init__(text_dim=text_dim, embed_dim=embed_dim)
        self.null_embed = nn.Parameter(torch.randn(1, text_dim) / math.sqrt(text_dim))

    def void(self) -> Tensor:
        """The projected row (1, D) of "no object"."""
        row: Tensor = self.text_proj(self.null_embed)
        return row


class OdiseHeads(DecodingHeads[OdisePredictor]):
    """Everything of ODISE behind the backbone, under the published names.

    Args:
        in_channels: Channels of the pyramid at strides 4, 8, 16 and 32.
        text_dim: Width of the joint space.
        supervision: "label" or "caption".
        channels: Width of the decoders.
        mask_channels: Width of the mask features; that of the decoders if not given.
        embed_dim: Width of the space in which masks and names meet; that of the decoders if not given.
        pixel_layers: Deformable layers.
        pixel_hidden: Width inside their feed-forward.
        points: Places a head of them looks at on each level.
        layers: Masked decoder layers.
        hidden: Width inside their feed-forward.
        queries: How many masks there are at most.
        heads: Attention heads of both.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        text_dim: int,
        supervision: Supervision = "label",
        channels: int = 256,
        mask_channels: int | None = None,
        embed_dim: int | None = None,
        pixel_layers: int = 6,
        pixel_hidden: int = 1024,
        points: int = 4,
        layers: int = 9,
        hidden: int = 2048,
        queries: int = 100,
        heads: int = 8,
    ) -> None:
        mask_channels, embed_dim = mask_channels or channels, embed_dim or channels
        super().__init__(
            pixel_decoder=PixelDecoder(
                in_channels=in_channels, channels=channels, mask_channels=mask_channels, layers=pixel_layers,
                heads=heads, points=points, hidden=pixel_hidden,
            ),
            predictor=OdisePredictor(
                embed_dim=embed_dim, objects=supervision == "caption", channels=channels, mask_channels=mask_channels,
                queries=queries, layers=layers, heads=heads, hidden=hidden,
            ),
        )  # fmt: skip
        if supervision == "label":
            self.category_head = CategoryHead(text_dim=text_dim, embed_dim=embed_dim)
        else:
            self.word_head = WordHead(text_dim=text_dim, embed_dim=embed_dim)

    @property
    def names(self) -> WordHead:
        """What projects text: the category head or the word head."""
        return self.category_head if hasattr(self, "category_head") else self.word_head

    def look(self, pyramid: Sequence[Tensor], *, all_layers: bool = False) -> list[FoundMasks]:
        """See `MaskHeads`."""
        states, mask_features = self.decode(pyramid, all_layers=all_layers)
        return [self.predictor.predict(state, mask_features) for state in states]

    def score(self, found: FoundMasks, text: TextRows) -> ScoredMasks:
        """See `MaskHeads`; names are projected here, and "none" is one of them in the label model."""
        scale, names = self.predictor.post_mask_embed.scale, self.names(text)
        if isinstance(self.names, CategoryHead):
            return scored_with_void(
                found, class_logits(found.embeddings_BQD, names, scale=scale, void_1D=self.names.void())
            )
        assert found.objects_BQ2 is not None
        return ScoredMasks(
            masks_BQYX=found.masks_BQYX,
            classes_BQC=found.objects_BQ2,
            names_BQK=class_logits(found.embeddings_BQD, names, scale=scale),
        )


def new_odise_heads(settings: OdiseSettings, *, in_channels: Sequence[int], text_dim: int) -> OdiseHeads:
    """New heads of the settings' sizes."""
    return OdiseHeads(
        in_channels=in_channels,
        text_dim=text_dim,
        supervision=settings.supervision,
        **settings.decoder_sizes(),
    )


@torch.no_grad()
def start_at_the_empty_text(heads: OdiseHeads, clip: DenseCLIP) -> None:
    """Makes "no object" start as the empty text, as published."""
    if isinstance(heads.names, CategoryHead):
        heads.names.null_embed.copy_(clip.encode_text([""]))


def stand_in_logits(found: FoundMasks, *, classes: int) -> Tensor:
    """Class logits (B, Q, K + 1) ahead of any name: 1 for each class and 0 for none in the label model.

    The published decoder gives them where matching happens before names are scored.
    """
    if found.objects_BQ2 is not None:
        return found.objects_BQ2
    logits = found.masks_BQYX.new_ones(*found.masks_BQYX.shape[:2], classes + 1)
    logits[..., -1] = 0.0
    return logits
