"""Panoptic quality: are the segments found, and how well do they fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

VOID: Final = 0
"""Segment id of pixels that belong to nothing."""
LARGEST_ID: Final = 256**3
"""Ids are colours of three bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledSegment:
    """One segment of the ground truth.

    Attributes:
        id: Value of its pixels.
        label: Index into the vocabulary.
        is_crowd: A region of many instances that nobody told apart; it can be neither found nor missed.
    """

    id: int
    label: int
    is_crowd: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Quality of a group of classes, in percent.

    Attributes:
        pq: Panoptic quality.
        sq: Segmentation quality: mean IoU of the matches.
        rq: Recognition quality: F1 of the matches.
        classes: Classes that were averaged over: those that occur or were predicted.
    """

    pq: float
    sq: float
    rq: float
    classes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticScores:
    """What a set of images came to.

    Attributes:
        overall: All classes.
        things: Things only.
        stuff: Stuff only.
        per_class: One row a class; its `classes` is 0 where it neither occurs nor was predicted.
    """

    overall: Quality
    things: Quality
    stuff: Quality
    per_class: tuple[Quality, ...]


class PanopticQuality:
    """Accumulates matches, then computes; float64 throughout.

    Source: Panoptic Segmentation (arXiv:1801.00868), Sec. 4, with COCO's treatment of void and crowds.

    Args:
        is_thing: For each class whether it is a thing.
    """

    def __init__(self, is_thing: Sequence[bool]) -> None:
        self.is_thing = np.array(is_thing, dtype=bool)
        count = len(self.is_thing)
        self.iou_sum: NDArray[np.float64] = np.zeros(count)
        self.hits: NDArray[np.int64] = np.zeros(count, dtype=np.int64)
        self.false: NDArray[np.int64] = np.zeros(count, dtype=np.int64)
        self.missed: NDArray[np.int64] = np.zeros(count, dtype=np.int64)

    def update(
        self,
        found_HW: NDArray[np.integer],
        found: Mapping[int, int],
        truth_HW: NDArray[np.integer],
        truth: Sequence[LabelledSegment],
    ) -> None:
        """Adds one image.

        Args:
            found_HW: Predicted segment ids; 0 is void.
            found: Predicted segment id -> label.
            truth_HW: True segment ids; 0 is void, which is not judged.
            truth: Its segments.

        Raises:
            ValueError: The maps differ in size, the predicted map and its list hold different ids, an id is no colour,
                two true segments have one id, or a label is no class.
        """
        if found_HW.shape != truth_HW.shape:
            raise ValueError(f"the predicted map is {found_HW.shape}, the true one {truth_HW.shape}; resize it first")
        _check_ids(found_HW, "predicted")
        _check_ids(truth_HW, "true")
        self._check_segments(found, truth)
        pairs = truth_HW.astype(np.int64) * LARGEST_ID + found_HW
        codes, counts = np.unique(pairs, return_counts=True)
        overlap = {
            divmod(code, LARGEST_ID): pixels for code, pixels in zip(codes.tolist(), counts.tolist(), strict=True)
        }
        found_area: dict[int, int] = {}
        truth_area: dict[int, int] = {}
        for (true_id, found_id), pixels in overlap.items():
            found_area[found_id] = found_area.get(found_id, 0) + pixels
            truth_area[true_id] = truth_area.get(true_id, 0) + pixels
        painted = set(found_area) - {VOID}
        if painted != set(found):
            raise ValueError(
                f"the predicted map holds the ids {sorted(painted)[:8]}, its list {sorted(found)[:8]}; every segment "
                "needs pixels and every pixel but 0 a segment"
            )
        matched_truth, matched_found = self._match(overlap, found, truth, found_area, truth_area)
        for segment in truth:
            if segment.id not in matched_truth and not segment.is_crowd:
                self.missed[segment.label] += 1
        crowds = {segment.label: segment.id for segment in truth if segment.is_crowd}  # the last one, as published
        for found_id, label in found.items():
            if found_id in matched_found:
                continue
            unjudged = overlap.get((VOID, found_id), 0)
            if label in crowds:
                unjudged += overlap.get((crowds[label], found_id), 0)
            if unjudged / found_area[found_id] <= 0.5:
                self.false[label] += 1

    def _check_segments(self, found: Mapping[int, int], truth: Sequence[LabelledSegment]) -> None:
        if len({segment.id for segment in truth}) < len(truth):
            raise ValueError("two true segments have one id; whose are its pixels?")
        wrong = {*found.values(), *(segment.label for segment in truth)} - set(range(len(self.is_thing)))
        if wrong:
            raise ValueError(f"the label {min(wrong)} is none of the {len(self.is_thing)} classes, which count from 0")

    def _match(
        self,
        overlap: Mapping[tuple[int, int], int],
        found: Mapping[int, int],
        truth: Sequence[LabelledSegment],
        found_area: Mapping[int, int],
        truth_area: Mapping[int, int],
    ) -> tuple[set[int], set[int]]:
        """Segments of one class whose IoU exceeds one half; there can be only one partner."""
        by_id = {segment.id: segment for segment in truth}
        matched_truth, matched_found = set(), set()
        for (true_id, found_id), pixels in overlap.items():
            segment = by_id.get(true_id)
            if segment is None or segment.is_crowd or found.get(found_id) != segment.label:
                continue
            union = found_area[found_id] + truth_area[true_id] - pixels - overlap.get((VOID, found_id), 0)
            iou = pixels / union
            if iou > 0.5:
                self.hits[segment.label] += 1
                self.iou_sum[segment.label] += iou
                matched_truth.add(true_id)
                matched_found.add(found_id)
        return matched_truth, matched_found

    def merge(self, other: "PanopticQuality") -> None:
        """Adds what another process has counted."""
        self.iou_sum += other.iou_sum
        self.hits += other.hits
        self.false += other.false
        self.missed += other.missed

    def compute(self) -> PanopticScores:
        """The scores so far; those of an empty group are NaN."""
        weight = self.hits + 0.5 * self.false + 0.5 * self.missed
        occurs = weight > 0
        pq = 100 * self.iou_sum / np.maximum(weight, 0.5)
        sq = 100 * self.iou_sum / np.maximum(self.hits, 1)
        rq = 100 * self.hits / np.maximum(weight, 0.5)

        def mean(chosen: NDArray[np.bool_]) -> Quality:
            if not chosen.any():
                return Quality(pq=float("nan"), sq=float("nan"), rq=float("nan"), classes=0)
            return Quality(
                pq=float(pq[chosen].mean()),
                sq=float(sq[chosen].mean()),
                rq=float(rq[chosen].mean()),
                classes=int(chosen.sum()),
            )

        rows = [
            Quality(pq=float(p), sq=float(s), rq=float(r), classes=int(there))
            for p, s, r, there in zip(pq, sq, rq, occurs, strict=True)
        ]
        return PanopticScores(
            overall=mean(occurs),
            things=mean(occurs & self.is_thing),
            stuff=mean(occurs & ~self.is_thing),
            per_class=tuple(rows),
        )


def _check_ids(ids_HW: NDArray[np.integer], what: str) -> None:
    if ids_HW.size and not 0 <= int(ids_HW.min()) <= int(ids_HW.max()) < LARGEST_ID:
        raise ValueError(
            f"the {what} map holds ids from {ids_HW.min()} to {ids_HW.max()}, expected 0 (void) to {LARGEST_ID - 1}"
        )
