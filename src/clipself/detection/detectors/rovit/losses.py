"""The four losses of RO-ViT's detector, as sums over their samples.

Source: DITO (arXiv:2310.00161), released code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.losses.masked_cross_entropy import masked_cross_entropy


def centreness_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The distance of chances and targets in [0, 1], summed; a target below 0 is left out."""
    distance = (logits.sigmoid() - targets).abs()
    return distance.where(targets >= 0, 0.0).sum()


def overlap_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """One minus the overlap of each box with its target, summed; targets of four zeros are left out.

    Args:
        boxes: `xyxy` (..., 4), decoded and clipped: what is clipped away has no gradient.
        targets: `xyxy` (..., 4).
    """
    corner, far = torch.maximum(boxes[..., :2], targets[..., :2]), torch.minimum(boxes[..., 2:], targets[..., 2:])
    shared = (far - corner).clamp(min=0).prod(-1)
    areas = [(one[..., 2:] - one[..., :2]).clamp(min=0).prod(-1) for one in (boxes, targets)]
    overlap = shared / (areas[0] + areas[1] - shared).clamp(min=1e-8)
    return (1 - overlap).where((targets != 0).any(-1), 0.0).sum()


def class_loss(logits_RK: Tensor, labels_R: Tensor, *, seen_K: Tensor, background_weight: float) -> Tensor:
    """Cross entropy over what training may see, the last column the background, summed over the regions."""
    return masked_cross_entropy(logits_RK, labels_R, seen_K=seen_K, background_weight=background_weight).sum()


def delta_loss(deltas_M4: Tensor, targets_M4: Tensor) -> Tensor:
    """Huber distance of the matched regions' deltas, summed; the caller divides by their coordinates."""
    return F.huber_loss(deltas_M4, targets_M4, reduction="sum")
