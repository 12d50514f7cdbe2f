"""Boxes as plain tensors: `boxes` are pixels, `boxes_norm` are in [0, 1]; both `xyxy`."""

import torch
from torch import Tensor


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """COCO's corner and size (..., 4) -> two corners (..., 4)."""
    return torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Two corners (..., 4) -> COCO's corner and size (..., 4)."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)


def normalize_boxes(boxes: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Pixels (..., 4) -> shares of an image of `size` = (height, width)."""
    height, width = size
    return boxes / torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)


def denormalize_boxes(boxes_norm: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Shares (..., 4) -> pixels of an image of `size` = (height, width)."""
    height, width = size
    return boxes_norm * torch.tensor([width, height, width, height], dtype=boxes_norm.dtype, device=boxes_norm.device)


def box_areas(boxes: Tensor) -> Tensor:
    """Width times height (...,) in squared units of the boxes."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def enlarge_boxes(boxes: Tensor, *, factor: float, size: tuple[int, int]) -> Tensor:
    """Scales boxes about their centres and clips them to the image.

    Source: CLIPSelf, released data loader (teacher crops of proposals are 1.5 times as wide and high).

    Args:
        boxes: Pixels (R, 4).
        factor: Ratio of the new sides to the old.
        size: Height and width of the image.
    """
    height, width = size
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2 * factor
    corners = torch.cat([centre - half, centre + half], dim=-1)
    limit = torch.tensor([width, height, width, height], dtype=corners.dtype, device=corners.device)
    return corners.clamp(min=0).minimum(limit)


def check_boxes(boxes: Tensor, *, size: tuple[int, int], source: str) -> Tensor:
    """Refuses boxes that cannot be meant, and says which one and why.

    Args:
        boxes: Pixels (R, 4).
        size: Height and width of the image.
        source: Where the boxes come from, for the message.

    Returns:
        The boxes, clipped by at most one pixel of rounding.

    Raises:
        ValueError: A box is not finite, has its corners swapped, has no area, or lies outside the image.
    """
    height, width = size
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"{source}: boxes are {tuple(boxes.shape)}, expected (R, 4) with rows x0, y0, x1, y1 in pixels"
        )
    faults = {
        "is not finite; drop it or repair the annotation": ~boxes.isfinite().all(-1),
        "has swapped corners; expected x0 < x1 and y0 < y1": (boxes[:, 2:] < boxes[:, :2]).any(-1),
        "has no area; drop it": (boxes[:, 2:] == boxes[:, :2]).any(-1),
        f"lies outside the image of {width} x {height} pixels; are width and height exchanged?": (
            (boxes[:, 0] >= width) | (boxes[:, 1] >= height) | (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0)
        ),
    }
    for fault, rows in faults.items():
        if rows.any():
            index = int(rows.nonzero()[0])
            raise ValueError(f"{source}: box {index} {boxes[index].tolist()} {fault}")
    limit = torch.tensor([width, height, width, height], dtype=boxes.dtype)
    return boxes.clamp(min=0).minimum(limit)
