"""Run lengths of masks as COCO writes them: column by column, clear pixels first."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LARGEST_SIDE: Final = 1_000_000
"""No picture is larger, in pixels a side."""


def read_run_lengths(segmentation: Mapping[str, Any]) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Takes {"size", "counts"} apart, compressed or not, and believes nothing that it says.

    Args:
        segmentation: `size` is height and width; `counts` a list, or COCO's compressed text.

    Returns:
        Run lengths, which begin with clear pixels and fill the mask exactly, and its height and width.

    Raises:
        ValueError: It has no such fields, a length is negative, or they do not fill a mask of that size.
    """
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(_is_side(side) for side in size):
        raise ValueError(f'its "size" is {shorten(size)}, expected [height, width] in pixels')
    height, width = int(size[0]), int(size[1])
    if isinstance(counts, str | bytes):
        lengths = expand_counts(counts)
    elif isinstance(counts, list) and all(type(count) is int and abs(count) < 2**40 for count in counts):
        lengths = np.asarray(counts, dtype=np.int64)
    else:
        raise ValueError(f'its "counts" are {shorten(counts)}, expected a list of run lengths or compressed text')
    if not len(lengths) or bool((lengths < 0).any()):
        raise ValueError("its run lengths are empty or negative; they are no mask")
    if int(lengths.max()) > height * width or int(lengths.sum()) != height * width:
        raise ValueError(
            f"its run lengths fill {int(lengths.sum())} pixels, its size {height} x {width} has {height * width}"
        )
    return lengths, (height, width)


def expand_counts(text: str | bytes) -> NDArray[np.int64]:
    """COCO's compressed text -> run lengths: six bits a character, from the third on differences to the last but one.

    Raises:
        ValueError: A character is none of those that are used, or the last number is cut off.
    """
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    digits: NDArray[np.int64] = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - 48
    if not len(digits) or bool(((digits < 0) | (digits > 63)).any()) or int(digits[-1]) & 32:
        raise ValueError("its compressed run lengths hold characters that none have, or are cut short")
    ends = np.flatnonzero(digits < 32)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(digits)) - np.repeat(starts, ends - starts + 1)
    if int(place.max()) > 6:
        raise ValueError("its compressed run lengths hold a number beyond any picture")
    values = np.add.reduceat((digits & 31) << (5 * place), starts)
    negative = (digits[ends] & 16) > 0
    values[negative] -= np.int64(1) << (5 * (place[ends][negative] + 1))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def fill_runs(lengths: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Run lengths that fill a mask of (height, width) -> the mask."""
    values = np.zeros(len(lengths), dtype=bool)
    values[1::2] = True
    return np.repeat(values, lengths).reshape(size[1], size[0]).T


def run_bounds(lengths: NDArray[np.int64], size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Tight box `xywh` of a mask without making it; None where it has no pixel."""
    ends = np.cumsum(lengths)[1::2] - 1
    starts = (ends - lengths[1::2] + 1)[lengths[1::2] > 0]
    ends = ends[lengths[1::2] > 0]
    if not len(starts):
        return None
    height = size[0]
    within = starts // height == ends // height  # a run over two columns touches top and bottom
    top, bottom = np.where(within, starts % height, 0).min(), np.where(within, ends % height, height - 1).max()
    left, right = starts.min() // height, ends.max() // height
    return float(left), float(top), float(right - left + 1), float(bottom - top + 1)


def encode_mask(mask_HW: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's compressed run lengths of a mask, ready for JSON."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask_HW, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def shorten(value: Any, *, most: int = 40) -> str:
    """What a value is, in few characters and none that a terminal would obey."""
    if isinstance(value, Mapping):
        return f"a table of {len(value)}"
    if isinstance(value, list | tuple) and len(value) > 6:
        return f"a list of {len(value)}"
    said = "absent or null" if value is None else ascii(value)
    return said if len(said) <= most else f"{said[:most]}..."


def _is_side(side: Any) -> bool:
    return type(side) in (int, float) and side == side and 0 < side <= LARGEST_SIDE and side == int(side)
