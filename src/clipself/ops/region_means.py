"""The mean of a map over each box, as RoIAlign of one bin gives it, by a product of matrices."""

import torch
from torch import Tensor

REGIONS_AT_ONCE = 256
"""Weights of so many regions over all cells of a map are held together."""


def region_means(map_BDYX: Tensor, rois_R5: Tensor, *, spatial_scale: float) -> Tensor:
    """What `roi_align(..., output_size=1, sampling_ratio=-1, aligned=True)` gives, up to the order of its sums.

    The samples of a box are a grid and a bilinear sample is a product of two hats, so that the mean over all samples is
    a product of row weights and column weights: one product of matrices in place of a loop over samples and channels,
    whose time does not grow with the boxes.

    Args:
        map_BDYX: (B, D, Y, X).
        rois_R5: Number of the image and `xyxy` of each box (R, 5); errors as of RoIAlign.
        spatial_scale: Cells of a pixel.

    Returns:
        (R, D), in the dtype of the map.
    """
    height, width = map_BDYX.shape[-2:]
    image_R, boxes_R4 = rois_R5[:, 0].long(), rois_R5[:, 1:] * spatial_scale - 0.5
    rows_RY = _weights(boxes_R4[:, 1], boxes_R4[:, 3], height).to(map_BDYX)
    columns_RX = _weights(boxes_R4[:, 0], boxes_R4[:, 2], width).to(map_BDYX)
    means_RD = map_BDYX.new_zeros(len(rois_R5), map_BDYX.shape[1])
    for image, map_DYX in enumerate(map_BDYX):
        cells_PD = map_DYX.flatten(1).mT
        for rows in torch.split((image_R == image).nonzero().flatten(), REGIONS_AT_ONCE):
            weights_RP = (rows_RY[rows, :, None] * columns_RX[rows, None, :]).flatten(1)
            means_RD[rows] = weights_RP @ cells_PD
    return means_RD


def _weights(start_R: Tensor, end_R: Tensor, cells: int) -> Tensor:
    """Each cell's part (R, cells) in the mean over the samples between two ends; those outside the map are zero."""
    side_R = end_R - start_R
    counts_R = side_R.ceil().clamp(min=0)
    numbers_N = torch.arange(int(counts_R.max()) if len(counts_R) else 0, device=start_R.device)
    at_RN = start_R[:, None] + (numbers_N + 0.5) * (side_R / counts_R.clamp(min=1))[:, None]
    counted_RN = (numbers_N < counts_R[:, None]) & (at_RN >= -1) & (at_RN <= cells)
    share_RN = counted_RN / counts_R.clamp(min=1)[:, None]
    at_RN = at_RN.clamp(0, cells - 1)
    low_RN = at_RN.floor()
    upper_RN = at_RN - low_RN
    weights_RC = at_RN.new_zeros(len(side_R), cells)
    weights_RC.scatter_add_(1, low_RN.long(), share_RN * (1 - upper_RN))
    return weights_RC.scatter_add_(1, (low_RN.long() + 1).clamp(max=cells - 1), share_RN * upper_RN)
