"""FC-CLIP's trained part: pixel decoder, masked decoder, and a class head that pools its own features under masks."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from clipself.layers.masked_decoder import MLP, MaskedDecoder, QueryState
from clipself.layers.pixel_decoder import PixelDecoder
from clipself.losses.mask_classification import MaskPredictions
from clipself.ops.pooling import pool_mask_logits
from clipself.panoptic.generators.mask_heads import (
    DecodingHeads,
    FoundMasks,
    ScoredMasks,
    new_logit_scale,
    scale_of,
    scored_with_void,
)
from clipself.panoptic.settings import OwnMasksSettings
from clipself.panoptic.text import class_logits
from clipself.structures import TextRows


class FcClipPredictor(MaskedDecoder):
    """A masked decoder whose class embedding lies in the joint space.

    Source: FC-CLIP (arXiv:2308.02487), released code with its parameter names. The released code adds the query to the
    pooled features, which the paper does not mention.

    Args:
        embed_dim: Width of the joint space.
        channels: Width of queries and mask features.
        options: The rest of `MaskedDecoder`'s arguments.
    """

    def __init__(self, *, embed_dim: int, channels: int = 256, **options: int) -> None:
        super().__init__(channels=channels, mask_channels=channels, **options)
        self._mask_pooling_proj = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels))
        self.class_embed = MLP(channels, channels, channels, embed_dim)
        self.logit_scale = new_logit_scale()

    def embed(self, state: QueryState, mask_features: Tensor) -> Tensor:
        """Embeddings (B, Q, D) of the masks of one state in the joint space, any length.

        Args:
            state: Queries and their masks.
            mask_features: What the masks were read from.
        """
        pooled = self._mask_pooling_proj(pool_mask_logits(mask_features, state.masks_BQYX))
        embeddings_BQD: Tensor = self.class_embed(pooled + state.queries_BQC)
        return embeddings_BQD


class FcClipHeads(DecodingHeads[FcClipPredictor]):
    """Everything of FC-CLIP that learns, under the published names.

    Args:
        in_channels: Channels of the pyramid at strides 4, 8, 16 and 32.
        embed_dim: Width of the joint space.
        channels: Width of decoders and mask features.
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
        embed_dim: int,
        channels: int = 256,
        pixel_layers: int = 6,
        pixel_hidden: int = 1024,
        points: int = 4,
        layers: int = 9,
        hidden: int = 2048,
        queries: int = 250,
        heads: int = 8,
    ) -> None:
        super().__init__(
            pixel_decoder=PixelDecoder(
                in_channels=in_channels, channels=channels, mask_channels=channels, layers=pixel_layers, heads=heads,
                points=points, hidden=pixel_hidden,
            ),
            predictor=FcClipPredictor(
                embed_dim=embed_dim, channels=channels, queries=queries, layers=layers, heads=heads, hidden=hidden
            ),
        )  # fmt: skip
        self.void_embedding = nn.Embedding(1, embed_dim)

    def forward(self, pyramid: Sequence[Tensor], text: TextRows, *, all_layers: bool = False) -> list[MaskPredictions]:
        """Predicts masks and their classes.

        Args:
            pyramid: Maps (B, C, Y, X) at strides 4, 8, 16 and 32.
            text: Names.
            all_layers: Whether to score the state before each layer too, for deep supervision.

        Returns:
            Predictions; the last one is the result. Without `all_layers` it is the only one.
        """
        return [self.score(found, text).predictions for found in self.look(pyramid, all_layers=all_layers)]

    def look(self, pyramid: Sequence[Tensor], *, all_layers: bool = False) -> list[FoundMasks]:
        """See `MaskHeads`."""
        states, mask_features = self.decode(pyramid, all_layers=all_layers)
        return [
            FoundMasks(masks_BQYX=state.masks_BQYX, embeddings_BQD=self.predictor.embed(state, mask_features))
            for state in states
        ]

    def score(self, found: FoundMasks, text: TextRows) -> ScoredMasks:
        """See `MaskHeads`; "no object" has an embedding of its own."""
        logits = class_logits(
            found.embeddings_BQD,
            text,
            scale=scale_of(self.predictor.logit_scale),
            void_1D=F.normalize(self.void_embedding.weight, dim=-1),
        )
        return scored_with_void(found, logits)


def new_fcclip_heads(settings: OwnMasksSettings, *, in_channels: Sequence[int], text_dim: int) -> FcClipHeads:
    """New heads of the settings' sizes."""
    return FcClipHeads(
        in_channels=in_channels,
        embed_dim=text_dim,
        **settings.decoder_sizes(),
    )
