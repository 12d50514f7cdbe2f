"""Boxes that were written in another form than `xywh` in pixels, told by how they lie in their pictures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def are_shares(boxes_N4: NDArray[np.float64], limits_N2: NDArray[np.float64]) -> bool:
    """Whether all boxes `xywh` lie within the first pixel of their picture, as shares of it do.

    Args:
        boxes_N4: As written.
        limits_N2: Width and height of the picture of each; infinite where they are not known.
    """
    ends_N2 = boxes_N4[:, :2] + boxes_N4[:, 2:]
    return bool(len(boxes_N4) and (boxes_N4[:, 2:] > 0).all() and (ends_N2 <= 1.0).all() and (limits_N2 > 1).all())


def like_corners(boxes_N4: NDArray[np.float64], limits_N2: NDArray[np.float64]) -> NDArray[np.int64]:
    """Boxes that reach beyond their picture, where each of all boxes is wider and higher than it is far in.

    Two corners (x0, y0, x1, y1) that are read as corner and size lie so; see `are_shares` for the arguments.
    """
    if len(boxes_N4) < 2 or not (boxes_N4[:, 2:] > boxes_N4[:, :2]).all():
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero((boxes_N4[:, :2] + boxes_N4[:, 2:] > limits_N2 + 1).any(1))


def odd_areas(areas_N: NDArray[np.float64], boxes_N4: NDArray[np.float64]) -> NDArray[np.int64]:
    """Areas that no mask within its box `xywh` can have: none at all, shares of a picture, or far above the box's.

    Args:
        areas_N: In pixels, as written; NaN where they are not.
        boxes_N4: The boxes.
    """
    whole_N = boxes_N4[:, 2] * boxes_N4[:, 3]
    return np.flatnonzero((whole_N >= 4) & ((areas_N < np.minimum(1.0, whole_N / 100)) | (areas_N > 2 * whole_N + 4)))


def repeated(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """Rows that are equal to an earlier row in all columns (N,) or (N, k)."""
    if not len(columns[0]):
        return np.zeros(0, dtype=np.int64)
    table = np.column_stack([np.asarray(column, dtype=np.float64).reshape(len(column), -1) for column in columns])
    _, first = np.unique(np.ascontiguousarray(table + 0.0).view(np.dtype((np.void, table.shape[1] * 8))).ravel(),
                         return_index=True)  # fmt: skip
    kept = np.zeros(len(table), dtype=bool)
    kept[first] = True
    return np.flatnonzero(~kept)


def iou_of_rows(boxes_N4: NDArray[np.float64], others_N4: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes `xywh`, row by row; 1 where one is not known or nothing is as large as a pixel."""
    ends_N2 = np.minimum(boxes_N4[:, :2] + boxes_N4[:, 2:], others_N4[:, :2] + others_N4[:, 2:])
    common = (ends_N2 - np.maximum(boxes_N4[:, :2], others_N4[:, :2])).clip(min=0).prod(1)
    union = boxes_N4[:, 2:].prod(1) + others_N4[:, 2:].prod(1) - common
    return np.where(union >= 1, common / np.maximum(union, 1), 1.0)
