"""Masks of a COCO-like file: polygons of every labelling tool and run lengths, checked once, decoded when asked for."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipself.data.coco.rows import FARTHEST
from clipself.ops.run_lengths import encode_mask, fill_runs, read_run_lengths, run_bounds, shorten

NO_MASK: Final = 0
POLYGONS: Final = 1
RUNS: Final = 2
UNUSABLE: Final = 3
"""A mask was meant, but nothing of it has three points."""

DEEPEST: Final = 4
"""Lists inside lists that are looked into."""

REACH: Final = 10
"""Polygons may stick out of their picture by this many of its sides; what goes farther is not meant."""


class Packed(tuple[array, ...]):  # type: ignore[type-arg]
    """Sound polygons in a fraction of the memory of lists of numbers."""

    __slots__ = ()


def pack(row: dict[str, Any]) -> dict[str, Any]:
    """Makes a row smaller while its file is parsed; what is not sound stays, to be looked at by row.

    Also the form of `hook` of `open_coco` for readers that want masks.
    """
    parts = row.get("segmentation")
    if type(parts) is list and parts:
        packed = []
        for part in parts:
            if type(part) is not list or len(part) < 6 or len(part) % 2 or not set(map(type, part)) <= {int, float}:
                return row
            try:
                packed.append(array("d", part))
            except OverflowError:
                return row
        row["segmentation"] = Packed(packed)
    return row


def drop(row: dict[str, Any]) -> dict[str, Any]:
    """Forgets masks while a file is parsed, for readers that want boxes; rows without a box keep theirs."""
    if "segmentation" in row and row.get("bbox"):
        row["segmentation"] = None
    return row


def find_parts(segmentation: Any, *, depth: int = 0) -> Iterator[list[float]]:
    """The polygons inside lists of whatever depth, each as x0, y0, x1, y1, ...

    Raises:
        ValueError: Something in it is no number.
    """
    if depth > DEEPEST:
        raise ValueError("its polygons lie in lists inside lists inside lists; expected [[x0, y0, x1, y1, ...], ...]")
    if isinstance(segmentation, list | tuple) and segmentation:
        kinds = set(map(type, segmentation))
        if kinds <= {int, float}:
            yield list(segmentation)
            return
        if kinds <= {list, tuple}:
            if len(segmentation) >= 3 and all(len(one) == 2 and _are_numbers(one) for one in segmentation):
                yield [value for point in segmentation for value in point]
                return
            for one in segmentation:
                yield from find_parts(one, depth=depth + 1)
            return
        if dict in kinds:
            raise ValueError('its polygon holds objects such as {"x": ..., "y": ...}; expected [[x0, y0, x1, y1, ...]]')
        odd = next((one for one in segmentation if type(one) not in (int, float, list, tuple)), segmentation)
        raise ValueError(f"its polygon holds {shorten(odd)}, expected numbers")
    elif not isinstance(segmentation, list | tuple):
        raise ValueError(f'its "segmentation" holds {shorten(segmentation)}, expected polygons or run lengths')


def _are_numbers(values: Any) -> bool:
    return set(map(type, values)) <= {int, float}


@dataclass(kw_only=True, slots=True)
class SegmentsBuilder:
    """Collects the masks of a file's rows, in their order."""

    kinds: "array[int]" = field(default_factory=lambda: array("b"))
    first: "array[int]" = field(default_factory=lambda: array("q"))
    ends: "array[int]" = field(default_factory=lambda: array("q"))
    numbers: "array[float]" = field(default_factory=lambda: array("d"))
    runs: dict[int, tuple[NDArray[np.int64], tuple[int, int]]] = field(default_factory=dict)

    def add(self, segmentation: Any, *, size: tuple[int, int] | None) -> str | None:
        """Takes the mask of one row.

        Args:
            segmentation: As the file has it.
            size: Height and width of its picture, where known.

        Returns:
            What is worth a remark, or None.

        Raises:
            ValueError: Something that cannot be meant; the message says what, the caller where.
        """
        self.first.append(len(self.ends))
        kind, remark = self._read(segmentation, size)
        self.kinds.append(kind)
        return remark

    def forget(self) -> None:
        """Takes back the row that was added last."""
        self.kinds.pop()
        first = self.first.pop()
        del self.ends[first:]
        del self.numbers[self.ends[-1] if self.ends else 0 :]
        self.runs.pop(len(self.kinds), None)

    def _read(self, segmentation: Any, size: tuple[int, int] | None) -> tuple[int, str | None]:
        if segmentation is None or (isinstance(segmentation, list | tuple | dict) and not segmentation):
            return NO_MASK, None
        if isinstance(segmentation, Mapping):
            lengths, own = read_run_lengths(segmentation)
            if size is not None and own != size:
                raise ValueError(say_sizes(own, size))
            self.runs[len(self.kinds)] = lengths, own
            return RUNS, None
        if type(segmentation) is Packed:
            kept: list[Any] = list(segmentation)
            remark = None
        else:
            parts = list(find_parts(segmentation))
            kept = [part for part in parts if len(part) >= 6 and not len(part) % 2]
            remark = "polygons of fewer than three points or an odd count of numbers left out"
            remark = remark if len(kept) < len(parts) or not kept else None
        highest = 0.0
        for part in kept:
            highest = max(highest, self._check(part, size))
            self.numbers.extend(part)
            self.ends.append(len(self.numbers))
        if highest <= 1 and len(kept) > 2 and len({len(part) for part in kept}) == 1:
            raise ValueError("its segmentation is rows of 0 and 1, a picture; encode it as run lengths (pycocotools)")
        return (POLYGONS if kept else UNUSABLE), remark

    @staticmethod
    def _check(part: Any, size: tuple[int, int] | None) -> float:
        """The largest number of a polygon that may be meant."""
        low, high = min(part), max(part)
        limit = FARTHEST if size is None else REACH * float(max(size))
        if not (-limit <= low and high <= limit and sum(part) == sum(part)):
            reach = f"{shorten(low)} to {shorten(high)}"
            raise ValueError(f"its polygon reaches from {reach}, which is far outside or not finite")
        return float(high)

    def build(self) -> "Segments":
        """The columns."""
        return Segments(
            kind_N=np.frombuffer(self.kinds, dtype=np.int8) if self.kinds else np.zeros(0, dtype=np.int8),
            first_N1=np.asarray([*self.first, len(self.ends)], dtype=np.int64),
            start_P1=np.concatenate([[0], np.asarray(self.ends, dtype=np.int64)]).astype(np.int64),
            numbers=np.frombuffer(self.numbers, dtype=np.float64) if self.numbers else np.zeros(0),
            runs=self.runs,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Segments:
    """Masks of N rows as columns.

    Attributes:
        kind_N: NO_MASK, POLYGONS, RUNS or UNUSABLE.
        first_N1: First polygon of each row, and one past the last.
        start_P1: First number of each polygon, and one past the last.
        numbers: Corners of all polygons, x and y in turn.
        runs: Row -> run lengths and size.
    """

    kind_N: NDArray[np.int8]
    first_N1: NDArray[np.int64]
    start_P1: NDArray[np.int64]
    numbers: NDArray[np.float64]
    runs: Mapping[int, tuple[NDArray[np.int64], tuple[int, int]]]

    def __len__(self) -> int:
        return len(self.kind_N)

    @property
    def has_mask_N(self) -> NDArray[np.bool_]:
        """Rows that can be decoded."""
        return np.isin(self.kind_N, (POLYGONS, RUNS))

    def polygons(self, row: int) -> list[NDArray[np.float64]]:
        """The polygons of a row."""
        parts = range(int(self.first_N1[row]), int(self.first_N1[row + 1]))
        return [self.numbers[self.start_P1[part] : self.start_P1[part + 1]] for part in parts]

    def bounds(self, row: int) -> tuple[float, float, float, float] | None:
        """Tight box `xywh` of a row's mask; None where it has no pixel."""
        if self.kind_N[row] == POLYGONS:
            points = np.concatenate(self.polygons(row)).reshape(-1, 2)
            (left, top), (right, bottom) = points.min(0), points.max(0)
            return float(left), float(top), float(right - left), float(bottom - top)
        if self.kind_N[row] != RUNS:
            return None
        return run_bounds(*self.runs[row])

    def all_bounds(self) -> NDArray[np.float64]:
        """Tight boxes `xywh` (N, 4) of all rows; NaN where there is no mask or it has no pixel."""
        bounds = np.full((len(self), 4), np.nan)
        rows = np.flatnonzero(self.kind_N == POLYGONS)
        if len(rows):
            points = self.numbers.reshape(-1, 2)
            starts = self.start_P1[self.first_N1[rows]] // 2  # the points of a row end where those of the next begin
            low = np.minimum.reduceat(points, starts)
            high = np.maximum.reduceat(points, starts)
            bounds[rows] = np.concatenate([low, high - low], axis=1)
        for row in self.runs:
            box = run_bounds(*self.runs[row])
            bounds[row] = np.nan if box is None else box
        return bounds

    def decode(self, row: int, size: tuple[int, int]) -> Tensor:
        """Boolean mask (H, W) of a row in a picture of `size` = (height, width).

        Raises:
            ValueError: The mask has another size, or the row has none.
        """
        if self.kind_N[row] == RUNS:
            lengths, own = self.runs[row]
            if own != size:
                raise ValueError(say_sizes(own, size))
            return torch.from_numpy(np.ascontiguousarray(fill_runs(lengths, own)))
        from pycocotools import mask as coco_mask

        return torch.from_numpy(coco_mask.decode(self.encode(row, size)).astype(bool))

    def encode(self, row: int, size: tuple[int, int]) -> dict[str, Any]:
        """Compressed run lengths of a row, as pycocotools takes them.

        Raises:
            ValueError: The mask has another size, or the row has none.
        """
        from pycocotools import mask as coco_mask

        if self.kind_N[row] == RUNS:
            return encode_mask(self.decode(row, size).numpy())
        if self.kind_N[row] != POLYGONS:
            raise ValueError("it has no mask that could be decoded")
        parts = self.polygons(row)
        for part in parts:
            if float(np.abs(part).max()) > REACH * max(size):
                raise ValueError(f"its polygon lies far outside the picture of {size[0]} x {size[1]} pixels")
        encoded: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects(parts, *size))
        return encoded


def say_sizes(own: tuple[int, int], size: tuple[int, int]) -> str:
    """That a mask belongs to a picture of another size."""
    return (
        f"its mask is {own[0]} x {own[1]} pixels (height x width), its picture {size[0]} x {size[1]}; "
        "was it resized after it was annotated? masks belong to the picture at its own size"
    )


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> Tensor:
    """Polygons or run lengths of COCO -> boolean mask (H, W).

    Raises:
        ValueError: It is neither, has another size, or has nothing of three points.
    """
    builder = SegmentsBuilder()
    builder.add(segmentation, size=size)
    return builder.build().decode(0, size)
