"""Boxes as offsets from other boxes: what a detector's regression learns."""

import math
from typing import Final

import torch
from torch import Tensor

LARGEST_LOG_SIZE: Final = math.log(1000 / 16)
"""Sides grow or shrink by this factor's exponential at most; both ways, where torchvision limits growth only."""


def encode_boxes(boxes: Tensor, targets: Tensor, *, stds: tuple[float, float, float, float]) -> Tensor:
    """Centre shift in sides and log ratio of the sides, divided by `stds`.

    Source: R-CNN (arXiv:1311.2524), appendix C, as every two-stage detector does.

    Args:
        boxes: `xyxy` (R, 4) that the offsets start from.
        targets: `xyxy` (R, 4) that they lead to.
        stds: Scale of dx, dy, dw, dh.

    Returns:
        Deltas (R, 4).
    """
    centre, sides = _centre_sides(boxes)
    wanted_centre, wanted_sides = _centre_sides(targets)
    smallest = 1e-6  # a box without area would give infinite deltas
    sides, wanted_sides = sides.clamp(min=smallest), wanted_sides.clamp(min=smallest)
    deltas = torch.cat([(wanted_centre - centre) / sides, (wanted_sides / sides).log()], dim=-1)
    return deltas / deltas.new_tensor(stds)


def decode_boxes(
    boxes: Tensor,
    deltas: Tensor,
    *,
    stds: tuple[float, float, float, float],
    size: tuple[int, int] | None = None,
    limit_shrinking: bool = True,
) -> Tensor:
    """The inverse of `encode_boxes`, with the log ratio limited both ways.

    Args:
        boxes: `xyxy` (..., 4).
        deltas: (..., 4), one for each box: regression is class-agnostic.
        stds: Scale of dx, dy, dw, dh.
        size: Height and width that the result is clipped to; None clips nothing.
        limit_shrinking: Whether the log ratio is limited below as well; Detectron2's is not.

    Returns:
        `xyxy` boxes (..., 4).
    """
    centre, sides = _centre_sides(boxes)
    scaled = deltas * deltas.new_tensor(stds)
    growth = scaled[..., 2:].clamp(-LARGEST_LOG_SIZE if limit_shrinking else None, LARGEST_LOG_SIZE)
    new_centre, half = centre + scaled[..., :2] * sides, 0.5 * sides * growth.exp()
    decoded = torch.cat([new_centre - half, new_centre + half], dim=-1)
    if size is None:
        return decoded
    limit = decoded.new_tensor([size[1], size[0], size[1], size[0]])
    return decoded.clamp(min=0).minimum(limit)


def _centre_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return 0.5 * (boxes[..., :2] + boxes[..., 2:]), boxes[..., 2:] - boxes[..., :2]
