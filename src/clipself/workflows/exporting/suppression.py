"""Suppression of doubles for batches of images, in shapes that do not depend on what is found."""

from typing import Final

import torch
from torch import Tensor
from torchvision.ops import nms


def suppress(boxes_BN4: Tensor, scores_BGN: Tensor, overlap: float, least: float) -> Tensor:
    """Which boxes stay: in each image and group the best one, then whatever overlaps none that stayed by more.

    All images and groups go through one call of torchvision's operator, shifted apart; in float64, in which a shift
    costs no digit that float32 has.

    Args:
        boxes_BN4: `xyxy`.
        scores_BGN: Score of each box in each group.
        overlap: IoU above which the lesser box goes.
        least: Boxes that do not score more are left out.

    Returns:
        (B, G, N), True for those that stay.
    """
    places_M3 = (scores_BGN > least).nonzero()
    image_M, group_M, box_M = places_M3.unbind(1)
    boxes_M4 = boxes_BN4[image_M, box_M].double()
    apart = boxes_BN4.double().abs().amax() * 2 + 1
    shift_M1 = ((image_M * scores_BGN.shape[1] + group_M) * apart)[:, None]
    kept = nms(boxes_M4 + shift_M1, scores_BGN[image_M, group_M, box_M].double(), overlap)
    stays = torch.zeros_like(scores_BGN, dtype=torch.bool)
    return stays.index_put((image_M[kept], group_M[kept], box_M[kept]), torch.ones_like(kept, dtype=torch.bool))


@torch.library.custom_op("clipself::suppress", mutates_args=())
def suppress_for_onnx(boxes_BN4: Tensor, scores_BGN: Tensor, overlap: float, least: float) -> Tensor:
    """`suppress` as one operator, which ONNX has: NonMaxSuppression knows images and groups."""
    return suppress(boxes_BN4, scores_BGN, overlap, least)


@suppress_for_onnx.register_fake
def _shape_of(boxes_BN4: Tensor, scores_BGN: Tensor, overlap: float, least: float) -> Tensor:
    return torch.empty_like(scores_BGN, dtype=torch.bool)


OPERATOR: Final = torch.ops.clipself.suppress.default
"""As exporters know it."""
