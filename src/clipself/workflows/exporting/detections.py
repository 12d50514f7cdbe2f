"""From scored boxes to tables of detections of one length, whatever is found."""

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
    best = flat_BP.topk(candidates, dim=1)
    chosen_BP = torch.full_like(flat_BP, NOTHING).scatter(1, best.indices, best.values)
    chosen_BKR = chosen_BP[:, :-candidates].reshape(scores_BKR.shape)
    stays_BKR = chosen_BKR > threshold if nms is None else suppress(boxes_BR4, chosen_BKR, nms, threshold)
    kept_BP = F.pad(chosen_BKR.where(stays_BKR, NOTHING).flatten(1), (0, most), value=NOTHING)
    found = kept_BP.topk(most, dim=1)
    there_BN = found.values > NOTHING
    boxes_BN4 = gather_boxes(boxes_BR4, found.indices % count) * there_BN[..., None]
    return boxes_BN4, found.values.clamp(min=0), (found.indices // count).where(there_BN, -1)


def gather_boxes(boxes_BN4: Tensor, places_BR: Tensor) -> Tensor:
    """Rows of each image's boxes."""
    return boxes_BN4.gather(1, places_BR[..., None].expand(-1, -1, 4))


def limits_of(sizes_B2: Tensor) -> Tensor:
    """Heights and widths as what the sides of boxes are clipped to (B, 1, 4)."""
    return sizes_B2[:, [1, 0, 1, 0]][:, None]
