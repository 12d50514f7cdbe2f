"""Crops of a map by single samples: the crop operation of TensorFlow's detectors, which RO-ViT and DITO use.

It differs from RoIAlign: one sample a bin, and positions are taken as indices of cells, without the half-pixel shift.
Source: RO-ViT (arXiv:2305.07011) and DITO (arXiv:2310.00161), released code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipself.ops.levels import join_boxes, roi_levels


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """Where the bins of some boxes lie along one axis of a map.

    Attributes:
        low_RS: The cell at or ahead of each sample.
        high_RS: The cell behind it.
        share_RS: Weight of the latter; the former has the rest.
    """

    low_RS: Tensor
    high_RS: Tensor
    share_RS: Tensor

    def matrix(self, cells: int) -> Tensor:
        """The mean over the samples as weights of the cells (R, cells)."""
        weights_RX = self.share_RS.new_zeros(len(self.share_RS), cells)
        weights_RX = weights_RX.scatter_add(1, self.low_RS, 1 - self.share_RS)
        return weights_RX.scatter_add(1, self.high_RS, self.share_RS) / self.share_RS.shape[1]


def place_samples(start_R: Tensor, end_R: Tensor, *, bins: int, last: float) -> Samples:
    """Sample i of `bins` stands at start + (i + 0.5) * (end - start) / bins, an index of cells.

    Args:
        start_R: First side of each box, in cells.
        end_R: Second side.
        bins: Samples of a box.
        last: Index beyond which there is nothing but the last cell.
    """
    steps_S = torch.arange(bins, device=start_R.device, dtype=start_R.dtype) + 0.5
    places_RS = start_R[:, None] + steps_S * (end_R - start_R)[:, None] / bins
    low_RS = places_RS.floor().clamp(min=0)
    return Samples(
        low_RS=low_RS.clamp(max=last).long(), high_RS=(low_RS + 1).clamp(max=last).long(), share_RS=places_RS - low_RS
    )


def crop_cells(
    maps_BCYX: Tensor, boxes_R4: Tensor, images_R: Tensor, *, bins: int, last: tuple[float, float] | None = None
) -> Tensor:
    """Cuts boxes out of maps, bilinearly, one sample a bin.

    Args:
        maps_BCYX: Maps.
        boxes_R4: `xyxy` in cells: the far side of a map of 64 cells is 64.
        images_R: The map of each box.
        bins: Side of a crop.
        last: Row and column beyond which there is nothing but the last cell; the map's own if not given.

    Returns:
        (R, C, bins, bins).
    """
    rows, cols = maps_BCYX.shape[2:]
    last_row, last_col = last or (rows - 1, cols - 1)
    y = place_samples(boxes_R4[:, 1], boxes_R4[:, 3], bins=bins, last=last_row)
    x = place_samples(boxes_R4[:, 0], boxes_R4[:, 2], bins=bins, last=last_col)
    cells_PC = maps_BCYX.permute(0, 2, 3, 1).flatten(0, 2)

    def read(rows_RS: Tensor, cols_RS: Tensor) -> Tensor:
        places = (images_R[:, None, None] * rows + rows_RS[:, :, None]) * cols + cols_RS[:, None]
        return cells_PC[places]

    share_y, share_x = (axis.share_RS.to(maps_BCYX) for axis in (y, x))
    share_y, share_x = share_y[:, :, None, None], share_x[:, None, :, None]
    above = read(y.low_RS, x.low_RS) * (1 - share_x) + read(y.low_RS, x.high_RS) * share_x
    below = read(y.high_RS, x.low_RS) * (1 - share_x) + read(y.high_RS, x.high_RS) * share_x
    return (above * (1 - share_y) + below * share_y).permute(0, 3, 1, 2)


def crop_means(dense_BDYX: Tensor, boxes: Sequence[Tensor], *, stride: float, bins: int) -> Tensor:
    """The mean of each box's crop, without the crop: sampling is linear and goes axis by axis.

    Args:
        dense_BDYX: Maps.
        boxes: For each image its `xyxy` boxes (r, 4) in pixels.
        stride: Pixels of a cell.
        bins: Side of the crop that is averaged.

    Returns:
        (R, D): the first image's boxes, then the second's.
    """
    rows, cols = dense_BDYX.shape[2:]
    means = []
    for dense_DYX, boxes_r4 in zip(dense_BDYX, boxes, strict=True):
        cells_r4 = boxes_r4.to(dense_DYX) / stride
        y = place_samples(cells_r4[:, 1], cells_r4[:, 3], bins=bins, last=rows - 1).matrix(rows)
        x = place_samples(cells_r4[:, 0], cells_r4[:, 2], bins=bins, last=cols - 1).matrix(cols)
        means.append((y[:, :, None] * x[:, None]).flatten(1) @ dense_DYX.flatten(1).mT)
    return torch.cat(means)


def crop_levels(
    maps: Sequence[Tensor], boxes: Sequence[Tensor], *, levels: tuple[int, int], bins: int, finest: float = 224.0
) -> Tensor:
    """`crop_cells` from the level of a pyramid that fits each box: floor(log2(sqrt(area) / 224)) + 4.

    Args:
        maps: (B, C, Y, X), finest first; one a level.
        boxes: For each image its `xyxy` boxes (r, 4) in pixels.
        levels: First and last level; cells of level l have 2^l pixels.
        bins: Side of a crop.
        finest: Root of the area from which level 4 begins to count, in pixels.

    Returns:
        (R, C, bins, bins): the first image's boxes, then the second's.

    Raises:
        ValueError: Maps and levels are not as many.
    """
    first, last = levels
    if len(maps) != last - first + 1:
        raise ValueError(f"{len(maps)} maps for the levels {first} to {last}; each level needs one")
    rois_R5 = join_boxes(boxes).to(maps[0].dtype)
    level_R = roi_levels(rois_R5[:, 1:], levels=len(maps), finest=finest * 2.0 ** (first - 4))
    cropped = maps[0].new_zeros(len(rois_R5), maps[0].shape[1], bins, bins)
    for place, features in enumerate(maps):
        rows = (level_R == place).nonzero().flatten()
        if len(rows):
            # The end is the finest map's, halved from level to level, whatever rounding made of the coarser map.
            ends = [math.ceil(side / 2**place) - 1.0 for side in maps[0].shape[2:]]
            end = tuple(min(float(side - 1), one) for side, one in zip(features.shape[2:], ends, strict=True))
            found = crop_cells(
                features, rois_R5[rows, 1:] / 2.0 ** (first + place), rois_R5[rows, 0].long(), bins=bins,
                last=(end[0], end[1]),
            )  # fmt: skip
            cropped = cropped.index_copy(0, rows, found)
    return cropped
