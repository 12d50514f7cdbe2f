"""From the last layer's predictions to what was found."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clipself.detection.protocol import Found
from clipself.losses.set_prediction import corners


def best_rows(logits_N: Tensor, *, most: int, threshold: float = 0.0) -> tuple[Tensor, Tensor]:
    """Scores of the best predictions and their rows, best first; of equals the first.

    Args:
        logits_N: Of all predictions.
        most: How many.
        threshold: Least score, itself left out.
    """
    scores, order = logits_N.float().sigmoid().sort(descending=True, stable=True)
    kept = min(most, int((scores > threshold).sum()))
    return scores[:kept], order[:kept]


def select_boxes(
    logits_N: Tensor, boxes_N4: Tensor, *, queries: int, size: Sequence[int], most: int, threshold: float = 0.0
) -> Found:
    """The best boxes over all queries and classes, without suppression: one query may hold several classes.

    Source: OV-DETR, released code.

    Args:
        logits_N: Class after class.
        boxes_N4: `cxcywh` in shares of the picture.
        queries: Of each class.
        size: Height and width of the picture, in the pixels that are wanted.
        most: How many.
        threshold: Least score.
    """
    scores, rows = best_rows(logits_N, most=most, threshold=threshold)
    limit = boxes_N4.new_tensor([size[1], size[0]] * 2, dtype=torch.float32)
    labels = torch.div(rows, queries, rounding_mode="floor")
    return Found(boxes=corners(boxes_N4[rows].float()) * limit, scores=scores, labels=labels)
