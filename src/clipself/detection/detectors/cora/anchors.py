"""Which class each anchor looks for, and how boxes are scored in the end."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms

from clipself.detection.protocol import Found

NOTHING = -1.0
"""Cosine of an anchor with "no class"; so low that it decides nothing."""


def class_chances(features_BQD: Tensor, texts_BKD: Tensor, *, temperature: float, factor_K: Tensor) -> Tensor:
    """Chance (B, Q, K) that an anchor looks for a class, times a factor of the class; not made to sum to 1.

    Source: CORA (arXiv:2303.13076), Sec. 3.3, anchor pre-matching.

    Args:
        features_BQD: Unit embeddings of the anchors' regions.
        texts_BKD: Unit embeddings of the names; (1, K, D) where they are the same for all pictures.
        temperature: Factor of the cosine.
        factor_K: Of each class.
    """
    cosine_BQK = features_BQD.float() @ texts_BKD.float().mT
    padded = F.pad(cosine_BQK, (0, 1), value=NOTHING)
    return (temperature * padded).softmax(-1)[..., :-1] * factor_K.to(padded)


def box_scores(
    features_BQD: Tensor, texts_KD: Tensor, logits_BQ: Tensor, *, temperature: float, objectness: float
) -> Tensor:
    """Scores (B, Q, K): the chance of each name among the names and a row of zeros, times the objectness.

    Args:
        features_BQD: Unit embeddings of the boxes.
        texts_KD: Unit embeddings of the names.
        logits_BQ: Objectness.
        temperature: Factor of the cosine.
        objectness: Exponent of the objectness.
    """
    logits_BQK = F.pad(temperature * features_BQD.float() @ texts_KD.float().mT, (0, 1))
    return logits_BQK.softmax(-1)[..., :-1] * logits_BQ.float().sigmoid()[..., None] ** objectness


def select(boxes_Q4: Tensor, scores_QK: Tensor, *, threshold: float, nms: float, most: int) -> Found:
    """What scores enough, without doubles within a class, best first; a box may be of several classes.

    Args:
        boxes_Q4: `xyxy`.
        scores_QK: One score a class.
        threshold: Least score.
        nms: Overlap from which the lesser of two boxes of a class goes.
        most: Detections that stay.
    """
    queries, labels = (scores_QK > threshold).nonzero(as_tuple=True)
    boxes, scores = boxes_Q4[queries].float(), scores_QK[queries, labels]
    kept = batched_nms(boxes, scores, labels, nms)[:most]
    return Found(boxes=boxes[kept], scores=scores[kept], labels=labels[kept])


def halves_of(texts_KD: Tensor, silent_K: Tensor) -> Tensor:
    """Embeddings of the names twice (2, K, D): some of them zero in the first, all others in the second.

    Source: CORA (arXiv:2303.13076), released code; a name of zeros has a cosine of 0 with everything.

    Args:
        texts_KD: Embeddings.
        silent_K: Names that are zero in the first.
    """
    return torch.stack([texts_KD.masked_fill(silent[:, None], 0.0) for silent in (silent_K, ~silent_K)])
