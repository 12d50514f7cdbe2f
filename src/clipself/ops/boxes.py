"""Boxes as plain tensors: `boxes` are pixels, `boxes_norm` are in [0, 1], both `xyxy`; `boxes_xywh` is COCO's form."""

import torch
from torch import Tensor


def xywh_to_xyxy(boxes_xywh: Tensor) -> Tensor:
    """COCO's corner and size (..., 4) -> two corners (..., 4)."""
    return torch.cat([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Two corners (..., 4) -> COCO's corner and size (..., 4)."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)


def normalize_boxes(boxes: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Pixels (..., 4) -> shares of an image of `size` = (height, width)."""
    return boxes / _limits(boxes, size)


def denormalize_boxes(boxes_norm: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Shares (..., 4) -> pixels of an image of `size` = (height, width)."""
    return boxes_norm * _limits(boxes_norm, size)


def enlarge_boxes(boxes: Tensor, *, factor: float = 1.5, size: tuple[int, int]) -> Tensor:
    """Scales boxes (..., 4) in pixels about their centres and clips them; see `enlarge_boxes_xywh`."""
    return enlarge_boxes_xywh(xyxy_to_xywh(boxes), factor=factor, size=size)


def enlarge_boxes_xywh(boxes_xywh: Tensor, *, factor: float = 1.5, size: tuple[int, int]) -> Tensor:
    """Scales boxes about their centres and clips them to the image.

    Source: CLIPSelf, released data loader (teacher crops of proposals are 1.5 times as wide and high). The order of the
    operations is theirs, since a corner half-way between two pixels may round to either.

    Args:
        boxes_xywh: Corner and size (..., 4) in pixels, as annotated.
        factor: Ratio of the new sides to the old.
        size: Height and width of the image.

    Returns:
        `xyxy` boxes (..., 4) in pixels.

    Raises:
        ValueError: The factor is not above 0.
    """
    if not factor > 0:
        raise ValueError(f"factor={factor} leaves no box; 1 keeps the size and 1.5 is the published enlargement")
    corner, sides = boxes_xywh[..., :2], boxes_xywh[..., 2:]
    centre, reach = corner + sides * 0.5, sides * (0.5 * factor)
    return clip_boxes(torch.cat([centre - reach, centre + reach], dim=-1), size=size)


def clip_boxes(boxes: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Cuts boxes (..., 4) in pixels at the borders of an image of `size` = (height, width)."""
    return boxes.clamp(min=0).minimum(_limits(boxes, size))


def find_box_fault(boxes: Tensor, *, size: tuple[int, int] | None = None) -> tuple[int, str] | None:
    """The first box that cannot be meant, and what is wrong with it.

    Args:
        boxes: Pixels (R, 4).
        size: Height and width of the image; None where they are not known.

    Returns:
        Row and fault, or None if all boxes can be used.
    """
    swapped = (boxes[:, 2:] < boxes[:, :2]).any(-1)
    faults = {
        "is not finite; drop it or repair the annotation": ~boxes.isfinite().all(-1),
        "has swapped corners (negative width or height); expected x0 < x1 and y0 < y1": swapped,
        "has no area; drop it": (boxes[:, 2:] == boxes[:, :2]).any(-1),
    }
    if size is not None:
        past = (boxes[:, :2] >= _limits(boxes, size)[:2]).any(-1) | (boxes[:, 2:] <= 0).any(-1)
        faults[f"lies outside the image of {size[1]} x {size[0]} pixels; are x and y or the images exchanged?"] = past
    for fault, rows in faults.items():
        if rows.any():
            return int(rows.nonzero()[0]), fault
    return None


def check_boxes(boxes: Tensor, *, size: tuple[int, int] | None = None, source: str) -> Tensor:
    """Refuses boxes that cannot be meant, and says which one and why; those across the border are clipped.

    Args:
        boxes: Pixels (R, 4).
        size: Height and width of the image; None checks all but the place and clips nothing.
        source: Where the boxes come from, for the message.

    Returns:
        The boxes, clipped to the image.

    Raises:
        ValueError: A box is not finite, has its corners swapped, has no area, or lies outside the image.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"{source}: boxes are {tuple(boxes.shape)}, expected (R, 4) with rows x0, y0, x1, y1 in pixels"
        )
    found = find_box_fault(boxes, size=size)
    if found is not None:
        index, fault = found
        raise ValueError(f"{source}: box {index} {boxes[index].tolist()} {fault}")
    return boxes if size is None else clip_boxes(boxes, size=size)


def inverse_sigmoid(shares: Tensor, *, eps: float) -> Tensor:
    """Shares in [0, 1], any shape -> logits; shares nearer to a border than `eps` count as at that distance."""
    clipped = shares.clamp(0, 1)
    return (clipped.clamp(min=eps) / (1 - clipped).clamp(min=eps)).log()


def _limits(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    return torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
