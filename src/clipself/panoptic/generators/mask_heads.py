"""What the heads of a mask generator that learns hand to its loss and to the caller."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from clipself.losses.mask_classification import MaskPredictions
from clipself.structures import TextRows


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

    def of_picture(self, index: int) -> "FoundMasks":
        """The masks of one picture of the batch."""
        objects = None if self.objects_BQ2 is None else self.objects_BQ2[index, None]
        return FoundMasks(
            masks_BQYX=self.masks_BQYX[index, None],
            embeddings_BQD=self.embeddings_BQD[index, None],
            objects_BQ2=objects,
        )


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


def scored_with_void(found: FoundMasks, logits_BQK1: Tensor) -> ScoredMasks:
    """Scores whose last column is "no object" itself."""
    return ScoredMasks(masks_BQYX=found.masks_BQYX, classes_BQC=logits_BQK1, names_BQK=logits_BQK1[..., :-1])
