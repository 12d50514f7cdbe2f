"""Overlapping windows over an image and their maps put together again; windows of tokens side by side."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Window = tuple[int, int, int, int]
"""Top, left, bottom, right, in pixels; the far sides are one past the last."""


def place_windows(size: tuple[int, int], *, window: tuple[int, int], stride: tuple[int, int]) -> list[Window]:
    """Windows of one size that cover an image; the last ones are moved back to end with it.

    Args:
        size: Height and width of the image.
        window: Height and width of a window; a longer side than the image's becomes the image's.
        stride: Steps down and right.

    Returns:
        Windows row by row; a single one, the image itself, where the window covers it.

    Raises:
        ValueError: A stride is not positive, or larger than the window, so that pixels would be missed.
    """
    window = (min(window[0], size[0]), min(window[1], size[1]))
    if min(stride) < 1 or (stride[0] > max(window[0], 1) and window[0] < size[0]):
        raise ValueError(f"stride {stride} must be positive and not larger than the window {window}")
    if stride[1] > window[1] and window[1] < size[1]:
        raise ValueError(f"stride {stride} must be positive and not larger than the window {window}")
    rows, cols = (_starts(*axis) for axis in zip(size, window, stride, strict=True))
    return [(top, left, top + window[0], left + window[1]) for top in rows for left in cols]


def _starts(length: int, window: int, stride: int) -> list[int]:
    starts = list(range(0, length - window, stride))
    return [*starts, length - window]


def cut_windows(image_3HW: Tensor, windows: Sequence[Window]) -> Tensor:
    """The pixels of each window: (V, 3, h, w)."""
    return torch.stack([image_3HW[:, top:bottom, left:right] for top, left, bottom, right in windows])


def merge_windows(maps_VKyx: Tensor, windows: Sequence[Window], size: tuple[int, int]) -> Tensor:
    """Brings each window's map to its pixels and averages where windows overlap.

    Args:
        maps_VKyx: One map a window, at any resolution; resized bilinearly.
        windows: Where they lie; together they cover the image.
        size: Height and width of the image.

    Returns:
        Map (K, H, W).
    """
    total = maps_VKyx.new_zeros(maps_VKyx.shape[1], *size)
    times = maps_VKyx.new_zeros(1, *size)
    for map_Kyx, (top, left, bottom, right) in zip(maps_VKyx, windows, strict=True):
        total[:, top:bottom, left:right] += resize_map(map_Kyx, (bottom - top, right - left))
        times[:, top:bottom, left:right] += 1
    return total / times


def spread_matrix(starts: Sequence[int], *, window: int, cells: int, length: int, out: int) -> Tensor:
    """One axis of `merge_windows` followed by a bilinear resize, as one matrix.

    Resizing is linear and goes axis by axis, and windows stand in rows and columns, so that all of it is
    rows @ maps @ columns.T: a product of small matrices instead of two passes over every pixel of every class.

    Args:
        starts: Where the windows begin, in pixels.
        window: Length of a window.
        cells: Cells of a window's map along this axis.
        length: Of the image that the windows lie on.
        out: Length wanted.

    Returns:
        (out, windows * cells), the cells of the first window first.
    """
    stretched = resize_matrix(torch.eye(cells), window)
    spread, times = torch.zeros(length, len(starts) * cells), torch.zeros(length, 1)
    for place, start in enumerate(starts):
        spread[start : start + window, place * cells : (place + 1) * cells] = stretched
        times[start : start + window] += 1
    return resize_matrix(spread / times, out)


def resize_matrix(matrix_LN: Tensor, out: int) -> Tensor:
    """A matrix to a length along one axis, and then a bilinear resize of it, as one matrix (out, N)."""
    if out == len(matrix_LN):
        return matrix_LN
    return F.interpolate(matrix_LN.T[None], size=out, mode="linear", align_corners=False)[0].T


def resize_map(map_KYX: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners not aligned; a map that has the size already is returned as it is."""
    if map_KYX.shape[1:] == size:
        return map_KYX
    return F.interpolate(map_KYX[None], size=size, mode="bilinear", align_corners=False)[0]


def split_windows(map_BYXC: Tensor, count: int) -> Tensor:
    """Cuts a map of tokens into `count` x `count` windows side by side: (B * count^2, tokens of a window, C).

    Raises:
        ValueError: The map does not divide into so many windows.
    """
    batch, rows, cols, width = map_BYXC.shape
    if rows % count or cols % count:
        raise ValueError(
            f"a grid of {rows} x {cols} patches does not divide into {count} x {count} windows; choose a picture whose "
            f"sides are multiples of {count} patches"
        )
    cut = map_BYXC.reshape(batch, count, rows // count, count, cols // count, width)
    return cut.transpose(2, 3).reshape(batch * count * count, -1, width)


def join_windows(windows_VNC: Tensor, count: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of `split_windows`: a map (B, Y, X, C) of so many rows and columns."""
    rows, cols = grid
    cut = windows_VNC.reshape(-1, count, count, rows // count, cols // count, windows_VNC.shape[-1])
    return cut.transpose(2, 3).reshape(len(cut), rows, cols, -1)
