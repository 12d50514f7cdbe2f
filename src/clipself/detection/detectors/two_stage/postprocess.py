"""From scored regions to detections: threshold, cut, class-wise suppression."""

from typing import Protocol

from torch import Tensor
from torchvision.ops import batched_nms

from clipself.detection.protocol import Found


class Selection(Protocol):
    """Settings by which detections are selected; see `TwoStageSettings`."""

    @property
    def score_threshold(self) -> float:
        """Least score."""

    @property
    def nms(self) -> float:
        """Overlap from which the lesser of a class goes."""

    @property
    def max_detections(self) -> int:
        """Of an image."""

    @property
    def max_candidates(self) -> int:
        """Pairs that go into the suppression."""


def select_detections(boxes: Tensor, scores_RK: Tensor, *, settings: Selection) -> Found:
    """Keeps what scores enough, suppresses doubles within a class, keeps the best.

    Args:
        boxes: One box (R, 4) a region: regression is class-agnostic.
        scores_RK: Fused scores (R, K), background last; probabilities already.
        settings: Thresholds and limits. Long vocabularies at low thresholds make a million candidates, so only the best
            `max_candidates` are suppressed.
    """
    foreground = scores_RK[:, :-1]
    regions, labels = (foreground > settings.score_threshold).nonzero(as_tuple=True)
    scores = foreground[regions, labels]
    if len(scores) > settings.max_candidates:
        best = scores.topk(settings.max_candidates).indices
        regions, labels, scores = regions[best], labels[best], scores[best]
    candidates = boxes[regions]
    kept = batched_nms(candidates, scores, labels, settings.nms)[: settings.max_detections]
    return Found(boxes=candidates[kept], scores=scores[kept], labels=labels[kept])
