"""The best class of every pixel from the scores of those classes alone that can win near it: exact, for any number.

Where scores change little from pixel to pixel, a few numbers bound those of all classes over a whole tile, and a class
whose highest possible score there lies below what another reaches everywhere need not be computed. Tiles are sized for
the cache of a processor; other devices are faster with all classes of a whole picture.
"""

from collections.abc import Callable, Iterator
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.ops.axes import unfold_axis

IN_CACHE: Final = 2**19
"""Numbers that a core of a processor keeps at hand: 2 MiB."""
IN_MEMORY: Final = 2**24
"""Numbers that are made at a time: 64 MiB."""
SIDE: Final = 16
"""Rows of a tile, and columns for which one bound holds, in pixels."""
ROUNDING: Final = 64
"""How many times the smallest step of a number a score may be off."""


def contenders(low_KT: Tensor, high_KT: Tensor) -> Tensor:
    """Classes that may be the best somewhere, ascending.

    Args:
        low_KT: What each class scores at least, at each of several places; scores are at most about 1.
        high_KT: What it scores at most there.
    """
    slack = ROUNDING * torch.finfo(low_KT.dtype).eps
    beaten_KT = high_KT < low_KT.amax(0) - slack  # whatever is not a number stays
    return (~beaten_KT).any(1).nonzero()[:, 0]


def best_by_masks(
    classes_QK: Tensor, masks_of: Callable[[slice, slice], Tensor], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The best of `class_scores` at every pixel.

    Args:
        classes_QK: Class probabilities of each mask.
        masks_of: Rows and columns of the picture -> mask probabilities (Q, h, w) there.
        size: Height and width of the picture.

    Returns:
        The best class (H, W), the first of equals, and its score (H, W).
    """
    labels_HW, scores_HW = _empty(size, like=classes_QK)
    for rows in _steps(size[0], SIDE):
        for cols in _steps(size[1], IN_CACHE // (SIDE * len(classes_QK))):
            soft_Qhw = masks_of(rows, cols)
            low_QT, high_QT = -_highest(-soft_Qhw.amin(1)), _highest(soft_Qhw.amax(1))
            low_KT, high_KT = (classes_QK.T @ torch.cat([low_QT, high_QT], dim=1)).chunk(2, dim=1)
            alive = contenders(low_KT, high_KT)
            scores_khw = unfold_axis(classes_QK.T[alive] @ soft_Qhw.flatten(1), 1, soft_Qhw.shape[1:])
            scores_HW[rows, cols], places = scores_khw.max(0)
            labels_HW[rows, cols] = alive[places]
    return labels_HW, scores_HW


def _highest(values_QW: Tensor) -> Tensor:
    """Of each few columns (Q, T)."""
    return F.max_pool1d(values_QW, SIDE, ceil_mode=True)


def best_by_maps(maps_KYX: Tensor, rows_HY: Tensor, cols_WX: Tensor) -> tuple[Tensor, Tensor]:
    """The best of `rows_HY @ maps_KYX @ cols_WX.T` at every pixel.

    Args:
        maps_KYX: Scores of each class in every cell.
        rows_HY: What each row of pixels takes of the rows of cells: shares whose sum is 1.
        cols_WX: The same of columns.

    Returns:
        The best class (H, W), the first of equals, and its score (H, W).
    """
    labels_HW, scores_HW = _empty((len(rows_HY), len(cols_WX)), like=maps_KYX)
    for cols in _steps(len(cols_WX), IN_MEMORY // maps_KYX[..., 0].numel()):
        across_YKw = maps_KYX.transpose(0, 1) @ cols_WX[cols].T
        for rows in _steps(len(rows_HY), SIDE):
            labels_HW[rows, cols], scores_HW[rows, cols] = _best_of_rows(across_YKw, rows_HY[rows])
    return labels_HW, scores_HW


def _best_of_rows(across_YKW: Tensor, rows_hY: Tensor) -> tuple[Tensor, Tensor]:
    """The best of `rows_hY @ across_YKW` (h, W), and its score; bounded by the middle row and how far others are."""
    cells = rows_hY.any(0).nonzero()[:, 0]
    rows_ht = rows_hY[:, cells]
    middle_t = rows_ht[len(rows_ht) // 2]
    moved = (rows_ht - middle_t).abs().sum(1).max() / 2  # the largest share that goes from one cell to another
    labels_hW, scores_hW = _empty((len(rows_ht), across_YKW.shape[2]), like=across_YKW)
    for cols in _steps(across_YKW.shape[2], IN_CACHE // (len(cells) * across_YKW.shape[1])):
        near_tKw = across_YKW[cells, :, cols]
        middle_Kw = unfold_axis(middle_t @ near_tKw.flatten(1), 0, near_tKw.shape[1:])
        room_Kw = moved * (near_tKw.amax(0) - near_tKw.amin(0))
        alive = contenders(middle_Kw - room_Kw, middle_Kw + room_Kw)
        scores_hkw = unfold_axis(rows_ht @ near_tKw[:, alive].flatten(1), 1, (len(alive), -1))
        scores_hW[:, cols], places = scores_hkw.max(1)
        labels_hW[:, cols] = alive[places]
    return labels_hW, scores_hW


def _empty(size: tuple[int, int], *, like: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty(size, dtype=torch.long, device=like.device), like.new_empty(size)


def _steps(length: int, step: int) -> Iterator[slice]:
    """Consecutive parts of a length."""
    step = max(1, step)
    return (slice(first, first + step) for first in range(0, length, step))
