"""How boxes lie in their pictures and around their masks: refused where it cannot be meant, else counted."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipself.data.coco.report import Notes
from clipself.data.coco.rows import CocoImage
from clipself.data.coco.segments import Segments
from clipself.ops.box_forms import are_shares, iou_of_rows, like_corners, odd_areas, repeated

FLAT: Final = "boxes without width or height passed over"
OUTSIDE: Final = "boxes outside their picture passed over"
CORNERS: Final = (
    "boxes reach beyond their picture, and each box of the file is wider and higher than it is far in: are they "
    "corners (x0, y0, x1, y1)? expected x, y, width, height"
)
ODD_AREAS: Final = (
    'rows whose "area" is none that a mask in their box has; AP of small, medium and large ones goes by it'
)
TWICE: Final = "rows repeat an earlier one (same picture, class and box); only one of each can be found"
APART: Final = (
    "masks do not lie in their box: were boxes or masks resized, are their x and y exchanged, or are boxes written by "
    "their centre?"
)

LEAST_IOU: Final = 0.5
"""Of a box with the bounds of its mask; labelling tools write one for the other."""


def limits_of(images: Sequence[CocoImage], image_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """Width and height (N, 2) of the picture of each row; infinite where the file does not say."""
    limits = np.asarray([(one.size or (np.inf, np.inf))[::-1] for one in images], dtype=np.float64)
    chosen: NDArray[np.float64] = limits.reshape(-1, 2)[image_N]
    return chosen


class Fitting:
    """Looks at all boxes of a file at once.

    Args:
        source: The file.
        images: Its pictures.
        notes: Takes what is counted.
        image_N: Place of each row's picture.
        boxes_N4: `xywh` in pixels.
        numbers: Place of each row in the file's own list.
    """

    def __init__(
        self, *, source: str, images: Sequence[CocoImage], notes: Notes, image_N: NDArray[np.int64],
        boxes_N4: NDArray[np.float64], numbers: NDArray[np.int64],
    ) -> None:  # fmt: skip
        self.source, self.images, self.notes = source, images, notes
        self.image_N, self.boxes_N4, self.numbers = image_N, boxes_N4, numbers
        self.limits_N2 = limits_of(images, image_N)

    def _note(self, what: str, rows: NDArray[np.int64]) -> None:
        for row in rows:
            self.notes.add(what, f"annotations[{int(self.numbers[row])}], {self.images[int(self.image_N[row])].file}")

    def fit(self) -> NDArray[np.bool_]:
        """Which boxes have an area and touch their picture; the others are counted.

        Raises:
            ValueError: Most of them lie outside, or all are shares of their picture.
        """
        flat = (self.boxes_N4[:, 2:] == 0).any(1)
        ends_N2 = self.boxes_N4[:, :2] + self.boxes_N4[:, 2:]
        outside = ~flat & ((self.boxes_N4[:, :2] >= self.limits_N2).any(1) | (ends_N2 <= 0).any(1))
        self._note(FLAT, np.flatnonzero(flat))
        self._note(OUTSIDE, np.flatnonzero(outside))
        if int(outside.sum()) * 2 > len(outside):
            first = int(np.flatnonzero(outside)[0])
            image = self.images[int(self.image_N[first])]
            raise ValueError(
                f"{self.source}: {int(outside.sum())} of {len(outside)} boxes lie outside their picture, such as "
                f"annotations[{int(self.numbers[first])}] {self.boxes_N4[first].tolist()} of {image.file} (height, "
                f"width {image.size}); are x and y, or the pictures, exchanged?"
            )
        if are_shares(self.boxes_N4, self.limits_N2):
            raise ValueError(
                f"{self.source}: all of its {len(self.boxes_N4)} boxes lie within the first pixel of their picture, "
                f"such as annotations[{int(self.numbers[0])}] {self.boxes_N4[0].tolist()}; are they shares of it? "
                "expected pixels"
            )
        self._note(CORNERS, like_corners(self.boxes_N4, self.limits_N2))
        fit: NDArray[np.bool_] = ~(flat | outside)
        return fit

    def remark(
        self, *, area_N: NDArray[np.float64], label_N: NDArray[np.int64], crowd_N: NDArray[np.bool_],
        segments: Segments | None,
    ) -> None:  # fmt: skip
        """Counts odd areas, where most are; rows that are there twice; and masks that do not lie in their box."""
        odd = odd_areas(area_N, self.boxes_N4)
        self._note(ODD_AREAS, odd if 2 * len(odd) > len(area_N) else odd[:0])
        self._note(TWICE, repeated(self.image_N, label_N, self.boxes_N4))
        if segments is not None:
            bounds_N4 = segments.all_bounds()
            self._note(APART, np.flatnonzero((iou_of_rows(self.boxes_N4, bounds_N4) < LEAST_IOU) & ~crowd_N))
