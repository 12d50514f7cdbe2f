"""What the heads of a mask generator that learns are made of, and hand to its loss and to the caller."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from clipself.layers.masked_decoder import MaskedDecoder, QueryState
from clipself.layers.pixel_decoder import PixelDecoder
from clipself.losses.mask_classification import MaskPredictions
from clipself.structures import TextRows

P = TypeVar("P", bound=MaskedDecoder)

LARGEST_SCALE: Final = 100.0
"""Of the learnt logit scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundMasks:
    """One set of masks: the final one, or that of a layer under deep supervision.

    Attributes:
        masks_BQYX: Mask logits.
        embeddings_BQD: Embeddings of the masks in the space of the heads' names, any length.
        objects_BQ2: Logits of "an object" and "none"; None from heads whose names hold "none" themselves.
    """

    masks_BQYX: Tensor
    embeddings_BQD: Tensor
    objects_BQ2: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredMasks:
    """Masks against some names.

    Attributes:
        masks_BQYX: Mask logits.
        classes_BQC: What the loss of classes compares with the segments: names, or objects of one kind; "no object" is
            the last column.
        names_BQK: Logits of the names.
    """

    masks_BQYX: Tensor
    classes_BQC: Tensor
    names_BQK: Tensor

    @property
    def predictions(self) -> MaskPredictions:
        """What the loss of masks takes."""
        return MaskPredictions(logits_BQK=self.classes_BQC, masks_BQYX=self.masks_BQYX)

    @property
    def void_BQ(self) -> Tensor:
        """Probability of "no object"."""
        return self.classes_BQC.float().softmax(-1)[..., -1]


class MaskHeads(Protocol):
    """A module that decodes a pyramid into masks and scores them against names."""

    def look(self, pyramid: Sequence[Tensor], *, all_layers: bool = False) -> list[FoundMasks]:
        """Maps (B, C, Y, X) at strides 4, 8, 16 and 32 -> masks, the last set the result.

        Args:
            pyramid: Finest level first.
            all_layers: Whether to give the state before each layer too, for deep supervision.
        """

    def score(self, found: FoundMasks, text: TextRows) -> ScoredMasks:
        """Compares masks with names in the joint space."""


class DecodingHeads(nn.Module, Generic[P]):
    """Pixel decoder and masked decoder of the Mask2Former family, in the published nesting of names.

    Args:
        pixel_decoder: The first half.
        predictor: The second half.
    """

    def __init__(self, *, pixel_decoder: PixelDecoder, predictor: P) -> None:
        super().__init__()
        self.sem_seg_head = nn.Module()
        self.sem_seg_head.pixel_decoder = pixel_decoder
        self.sem_seg_head.predictor = predictor

    @property
    def pixel_decoder(self) -> PixelDecoder:
        """The first half."""
        decoder: PixelDecoder = self.sem_seg_head.pixel_decoder  # type: ignore[assignment]
        return decoder

    @property
    def predictor(self) -> P:
        """The second half."""
        predictor: P = self.sem_seg_head.predictor  # type: ignore[assignment]
        return predictor

    def decode(self, pyramid: Sequence[Tensor], *, all_layers: bool) -> tuple[Sequence[QueryState], Tensor]:
        """States of the queries, the last one the result, and what their masks were read from; see `MaskHeads.look`."""
        features = self.pixel_decoder(pyramid)
        states = self.predictor.decode(features)
        return states if all_layers else states[-1:], features.mask_features


def new_logit_scale() -> nn.Parameter:
    """The logarithm of what cosines with names are multiplied with, where it starts; see `scale_of`."""
    return nn.Parameter(torch.tensor(math.log(1 / 0.07)))


def scale_of(logit_scale: Tensor) -> Tensor:
    """What cosines with names are multiplied with."""
    return logit_scale.exp().clamp(max=LARGEST_SCALE)


def scored_with_void(found: FoundMasks, logits_BQK1: Tensor) -> ScoredMasks:
    """Scores whose last column is "no object" itself."""
    return ScoredMasks(masks_BQYX=found.masks_BQYX, classes_BQC=logits_BQK1, names_BQK=logits_BQK1[..., :-1])
