"""Which regions of an image are distilled: the cells of a random grid, random boxes, or proposals."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from clipself.ops.boxes import denormalize_boxes, enlarge_boxes, enlarge_boxes_xywh, xywh_to_xyxy
from clipself.ops.grids import check_split, grid_boxes, grid_choices

MIN_AREA, MAX_AREA = 8.0**2, 1024.0**2
"""Bounds on proposals in squared original pixels (CLIPSelf, released data loader)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRegions:
    """Regions of one image as the two sides see them.

    Attributes:
        boxes: What the student pools over (R, 4), in original pixels.
        crop_boxes: What is cut out for the teacher (R, 4), in original pixels.
    """

    boxes: Tensor
    crop_boxes: Tensor

    def __post_init__(self) -> None:
        if self.boxes.shape != self.crop_boxes.shape or self.boxes.shape[1:] != (4,):
            raise ValueError(
                f"boxes {tuple(self.boxes.shape)} and crop boxes {tuple(self.crop_boxes.shape)} must both be (R, 4)"
            )

    def mirrored(self, width: int) -> "ImageRegions":
        """The same regions in an image of that width, left and right exchanged."""
        return ImageRegions(boxes=_mirror(self.boxes, width), crop_boxes=_mirror(self.crop_boxes, width))


def draw_patches(
    size: tuple[int, int],
    rng: random.Random,
    *,
    max_split: int = 6,
    max_regions: int = 20,
    enlarge: float = 1.0,
) -> ImageRegions:
    """Draws one m x n grid uniformly, shuffles its cells and keeps the first ones.

    Source: CLIPSelf (arXiv:2310.01403), Sec. 3.2, with the released limits.

    Args:
        size: Height and width of the original image.
        rng: The only source of chance.
        max_split: Most rows or columns.
        max_regions: Most cells kept.
        enlarge: Sides of the teacher's crop relative to the cell.

    Returns:
        The cells, in the shuffled order.
    """
    rows, cols = rng.choice(grid_choices(max_split))
    order = list(range(rows * cols))
    rng.shuffle(order)
    return _drawn(grid_boxes(rows, cols)[order[:max_regions]], size, enlarge)


def draw_boxes(
    size: tuple[int, int],
    rng: random.Random,
    *,
    max_split: int = 6,
    max_regions: int = 20,
    enlarge: float = 1.0,
) -> ImageRegions:
    """Draws boxes of every size anywhere: what small things need, which no grid of few cells shows.

    Sizes (the root of a box's share of the image) are drawn log-uniformly from a cell of the finest grid to the whole
    image, much as annotated things are, ratios of the sides log-uniformly from 1:2 to 2:1, and places uniformly.

    Args:
        size: Height and width of the original image.
        rng: The only source of chance.
        max_split: Cells in a row of the finest grid.
        max_regions: How many boxes.
        enlarge: Sides of the teacher's crop relative to the box.

    Returns:
        The boxes, in the order of their drawing.
    """
    check_split(max_split)
    return _drawn(torch.tensor([_draw_box(rng, max_split) for _ in range(max_regions)]), size, enlarge)


def _drawn(boxes_norm: Tensor, size: tuple[int, int], enlarge: float) -> ImageRegions:
    """Boxes in shares of the image as regions of it, the crops enlarged."""
    boxes = denormalize_boxes(boxes_norm, size=size)
    return ImageRegions(
        boxes=boxes, crop_boxes=boxes if enlarge == 1.0 else enlarge_boxes(boxes, factor=enlarge, size=size)
    )


def _draw_box(rng: random.Random, max_split: int) -> tuple[float, float, float, float]:
    side, ratio = max_split ** -rng.random(), 2 ** rng.uniform(-0.5, 0.5)
    width, height = min(1.0, side * ratio), min(1.0, side / ratio)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return left, top, left + width, top + height


def choose_proposals(
    boxes_xywh: Tensor,
    *,
    size: tuple[int, int],
    rng: random.Random | None = None,
    max_regions: int = 20,
    min_area: float = MIN_AREA,
    max_area: float = MAX_AREA,
    enlarge: float = 1.5,
) -> ImageRegions:
    """Shuffles proposals, looks at the first ones and drops those of unfit area, so that fewer may be left.

    Source: CLIPSelf, released data loader. Where none is left, the box (0, 0, W / 4, H / 4) stands in; its crop is cut
    at whole pixels and not enlarged.

    Args:
        boxes_xywh: Proposals (N, 4) in original pixels, corner and size as annotated.
        size: Height and width of the original image.
        rng: Source of the shuffle; None keeps the order.
        max_regions: How many are looked at.
        min_area: Smallest area in squared pixels.
        max_area: Largest area.
        enlarge: Sides of the teacher's crop relative to the proposal.

    Returns:
        At least one region.
    """
    order = list(range(len(boxes_xywh)))
    if rng is not None:
        rng.shuffle(order)
    chosen = boxes_xywh[order[:max_regions]]
    areas = chosen[:, 2] * chosen[:, 3]
    kept = chosen[(areas >= min_area) & (areas <= max_area)]
    if not len(kept):
        height, width = size
        corner = torch.tensor([[0.0, 0.0, width / 4, height / 4]], dtype=boxes_xywh.dtype)
        return ImageRegions(boxes=corner, crop_boxes=corner.floor())
    boxes = xywh_to_xyxy(kept)
    return ImageRegions(
        boxes=boxes, crop_boxes=boxes if enlarge == 1.0 else enlarge_boxes_xywh(kept, factor=enlarge, size=size)
    )


def _mirror(boxes: Tensor, width: int) -> Tensor:
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=-1)
