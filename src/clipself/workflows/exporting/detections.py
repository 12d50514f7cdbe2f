"""From scored boxes to tables of detections of one length, whatever is found."""

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.workflows.exporting.graph import Suppress

NOTHING: Final = -1.0
"""Score of what is no proposal or detection; every threshold lies above it."""


def select_pairs(
    boxes_BR4: Tensor,
    scores_BKR: Tensor,
    *,
    suppress: Suppress,
    threshold: float,
    nms: float | None,
    candidates: int,
    most: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of box and name; see `select_detections`, which gives a list for one image.

    Args:
        boxes_BR4: `xyxy`.
        scores_BKR: Of each box for each name; `NOTHING` where there is no box.
        suppress: See `Suppress`.
        threshold: Pairs that do not score more are left out.
        nms: Overlap from which the lesser box of a name goes; None keeps all.
        candidates: Best pairs of an image that go into the suppression.
        most: Detections of an image.

    Returns:
        Boxes (B, N, 4), scores (B, N), labels (B, N), the best first; what is not there has score 0 and label -1.
    """
    count = boxes_BR4.shape[1]
    flat_BP = F.pad(scores_BKR.flatten(1), (0, candidates), value=NOTHING)
    likely = flat_BP.topk(candidates, dim=1)
    chosen_BP = torch.full_like(flat_BP, NOTHING).scatter(1, likely.indices, likely.values)
    chosen_BKR = chosen_BP[:, :-candidates].reshape(scores_BKR.shape)
    stays_BKR = chosen_BKR > threshold if nms is None else suppress(boxes_BR4, chosen_BKR, nms, threshold)
    best = pick_best(chosen_BKR.where(stays_BKR, NOTHING).flatten(1), threshold=NOTHING, most=most)
    return best.table(boxes_BR4, each=count)


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best of each image's pairs, as many for each; what is not there has score 0.

    Attributes:
        scores_BN: The best first.
        places_BN: Of the pairs; 0 where there is none.
        there_BN: Which of them there are.
    """

    scores_BN: Tensor
    places_BN: Tensor
    there_BN: Tensor

    def table(self, boxes_BR4: Tensor, *, each: int, own: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels, where pairs go name by name.

        Args:
            boxes_BR4: The same for every name; or those of all pairs, where each name has its own.
            each: Pairs of a name.
            own: Whether it has.
        """
        places_BN = self.places_BN if own else self.places_BN % each
        boxes_BN4 = gather_boxes(boxes_BR4, places_BN) * self.there_BN[..., None]
        return boxes_BN4, self.scores_BN, (self.places_BN // each).where(self.there_BN, -1)


def pick_best(scores_BP: Tensor, *, threshold: float, most: int) -> Best:
    """The pairs that score more than the threshold, as many as wanted at most."""
    padded_BP = F.pad(scores_BP.where(scores_BP > threshold, NOTHING), (0, most), value=NOTHING)
    best = padded_BP.topk(most, dim=1)
    there_BN = best.values > NOTHING
    return Best(scores_BN=best.values.clamp(min=0), places_BN=best.indices.where(there_BN, 0), there_BN=there_BN)


def gather_boxes(boxes_BN4: Tensor, places_BR: Tensor) -> Tensor:
    """Rows of each image's boxes."""
    return boxes_BN4.gather(1, places_BR[..., None].expand(-1, -1, 4))


def limits_of(sizes_B2: Tensor) -> Tensor:
    """Heights and widths as what the sides of boxes are clipped to (B, 1, 4)."""
    return sizes_B2[:, [1, 0, 1, 0]][:, None]
