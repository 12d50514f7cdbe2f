"""Boxes predicted as a set: what it costs a query to answer for an object, and the losses of those that do.

Source: DETR (arXiv:2005.12872), Sec. 3.1, with Deformable DETR's focal terms (arXiv:2010.04159), as OV-DETR, CORA and
OWL-ViT use them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss, sigmoid_focal_loss


@dataclass(frozen=True, kw_only=True, slots=True)
class SetWeights:
    """How much each term counts; matching and loss may weigh differently.

    Attributes:
        classes: Focal term of the class.
        box: L1 distance of `cxcywh` in shares of the picture.
        overlap: Generalised IoU.
    """

    classes: float = 2.0
    box: float = 5.0
    overlap: float = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Focal:
    """Constants of the focal loss (arXiv:1708.02002).

    Attributes:
        alpha: Weight of positives; negatives weigh 1 - alpha.
        gamma: Exponent that hushes easy ones.
    """

    alpha: float = 0.25
    gamma: float = 2.0

    def loss(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Loss of every logit, of any shape; `wanted` is 1 for positives and 0 for negatives."""
        loss: Tensor = sigmoid_focal_loss(logits, wanted, alpha=self.alpha, gamma=self.gamma)
        return loss

    def cost(self, logits: Tensor) -> Tensor:
        """What it costs to take a logit for a positive instead of a negative, of any shape."""
        p = logits.sigmoid()
        positive = -self.alpha * (1 - p) ** self.gamma * (p + 1e-8).log()
        negative = -(1 - self.alpha) * p**self.gamma * (1 - p + 1e-8).log()
        return positive - negative


@torch.no_grad()
def set_costs(class_cost_QN: Tensor, boxes_Q4: Tensor, truth_N4: Tensor, *, weights: SetWeights) -> Tensor:
    """What it would cost each query to answer for each object of one image.

    Args:
        class_cost_QN: `Focal.cost` of each query's logit for each object's class; (Q, 1) where there is one logit.
        boxes_Q4: Predicted `cxcywh` in [0, 1].
        truth_N4: Objects, likewise.
        weights: Of the three terms.

    Returns:
        Costs (Q, N), float32; pass them to `match`.
    """
    boxes, truth = boxes_Q4.float(), truth_N4.float()
    distance_QN = torch.cdist(boxes, truth, p=1)
    overlap_QN = generalized_box_iou(corners(boxes), corners(truth))
    costs: Tensor = weights.classes * class_cost_QN.float() + weights.box * distance_QN - weights.overlap * overlap_QN
    return costs


def box_losses(boxes_M4: Tensor, truth_M4: Tensor, *, eps: float = 1e-12) -> tuple[Tensor, Tensor]:
    """Sums of the L1 distance and of 1 - generalised IoU over matched pairs.

    Args:
        boxes_M4: Predicted `cxcywh` in [0, 1].
        truth_M4: The objects that they answer for.
        eps: Added to the areas that are divided by.
    """
    distance = F.l1_loss(boxes_M4, truth_M4, reduction="sum")
    return distance, generalized_box_iou_loss(corners(boxes_M4), corners(truth_M4), reduction="sum", eps=eps)


def corners(boxes: Tensor) -> Tensor:
    """`cxcywh` -> `xyxy`, (..., 4)."""
    converted: Tensor = box_convert(boxes, "cxcywh", "xyxy")
    return converted
