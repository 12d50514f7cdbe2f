"""Boxes as RO-ViT's detector has them: sides from an anchor's centre, centreness, widths that count both ends.

Source: DITO (arXiv:2310.00161), released code; centreness after OLN (arXiv:2108.06753).
"""

from typing import Final

import torch
from torch import Tensor

from clipself.ops.boxes import clip_boxes
from clipself.ops.deltas import decode_boxes, encode_boxes

STDS: Final = (0.1, 0.1, 0.2, 0.2)
"""One over the published weights 10, 10, 5, 5."""
_LAST_PIXEL: Final = (0.0, 0.0, 1.0, 1.0)
"""A box from pixel 3 to pixel 5 is three pixels wide there."""


def decode_sides(anchors: Tensor, sides: Tensor) -> Tensor:
    """Left, right, top, bottom (..., 4) in sides of the anchor, from its centre -> `xyxy` (..., 4), not clipped."""
    centre, extent = (anchors[..., :2] + anchors[..., 2:]) / 2, anchors[..., 2:] - anchors[..., :2]
    left_top, right_bottom = sides[..., [0, 2]], sides[..., [1, 3]]
    return torch.cat([centre - left_top * extent, centre + right_bottom * extent], dim=-1)


def centreness_of(boxes: Tensor, anchors: Tensor) -> Tensor:
    """How near the middle of a box an anchor's centre is: 1 in the middle, 0 at the border and outside; (...,)."""
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2
    ahead, behind = centre - boxes[..., :2], boxes[..., 2:] - centre
    least, most = torch.minimum(ahead, behind), torch.maximum(ahead, behind)
    inside = (least > 0).all(-1)
    ratios = least / most.where(most > 0, 1.0)
    return ratios.prod(-1).where(inside, 0.0).sqrt()


def encode_regions(boxes: Tensor, targets: Tensor, *, stds: tuple[float, float, float, float] = STDS) -> Tensor:
    """`encode_boxes` where a box has the pixels of both its ends."""
    last = boxes.new_tensor(_LAST_PIXEL)
    return encode_boxes(boxes + last, targets + last, stds=stds)


def decode_regions(boxes: Tensor, deltas: Tensor, *, stds: tuple[float, float, float, float] = STDS) -> Tensor:
    """The inverse of `encode_regions`, not clipped."""
    last = boxes.new_tensor(_LAST_PIXEL)
    return decode_boxes(boxes + last, deltas, stds=stds) - last


def shrink_boxes(boxes: Tensor, *, factor: float, size: tuple[int, int]) -> Tensor:
    """Boxes scaled about their centres and clipped to the last pixel of a picture of height and width `size`."""
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) * (factor / 2)
    return clip_boxes(torch.cat([centre - half, centre + half], dim=-1), size=(size[0] - 1, size[1] - 1))
