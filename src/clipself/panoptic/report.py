"""What an evaluation found: a table for people, JSON for programs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from clipself.data.coco.report import ReadReport
from clipself.files import without_nan, write_json
from clipself.metrics.panoptic_quality import PanopticScores
from clipself.text.columns import align

SHOWN = 8
"""Names of classes without a segment that the table spells out."""
ROW_TITLES = {
    "clip": "CLIP only", "generator": "generator only", "both": "both", "both-odise": "both (ODISE)",
    "both-odise-caption": "both (ODISE, captions)",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticRow:
    """One model with one way of scoring, in percent; NaN where there is nothing to score.

    Attributes:
        model: The CLIP that judged.
        scores: Row of `MIXTURES`.
        quality: PQ, SQ, RQ of all classes, things and stuff.
        mask_ap: Mask AP over IoU 0.50 to 0.95.
        mask_ap50: Mask AP at IoU 0.50.
        miou: Mean IoU of the semantic map over classes that occur.
        accuracy: Share of the true segments that some mask covers (IoU > 0.5) whose mask gets the right class.
        class_accuracy: The same, averaged over classes.
        covered: Share of the true segments that some mask covers.
    """

    model: str
    scores: str
    quality: PanopticScores
    mask_ap: float
    mask_ap50: float
    miou: float
    accuracy: float
    class_accuracy: float
    covered: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticReport:
    """Panoptic evaluation of some models on the same masks.

    Attributes:
        rows: One for each model and way of scoring.
        images: How many pictures were seen.
        listed: How many the data holds.
        reading: What was read of the annotations against what they list.
        without_masks: Pictures for which there was no mask at all.
        class_names: The vocabulary.
        without_truth: Classes of which no picture has a segment.
        settings: Everything that the numbers depend on.
    """

    rows: tuple[PanopticRow, ...]
    images: int
    listed: int
    reading: ReadReport
    without_masks: int
    class_names: tuple[str, ...]
    without_truth: tuple[str, ...]
    settings: dict[str, Any]

    def to_table(self) -> str:
        """The scores as aligned text."""
        head = [
            "model",
            "scores",
            "PQ",
            "SQ",
            "RQ",
            "PQ th",
            "PQ st",
            "mask AP",
            "AP50",
            "mIoU",
            "acc",
            "class acc",
            "covered",
        ]
        body = [[row.model, ROW_TITLES.get(row.scores, row.scores), *map(_cell, _numbers(row))] for row in self.rows]
        lines = align(head, body, words=2)
        return "\n".join([*self._counts(), *lines, *self.reading.remarked()])

    def _counts(self) -> list[str]:
        """What was read of what is listed, and what there was nothing to score of."""
        names, absent = len(self.class_names), len(self.without_truth)
        said = [f"{self.images} of {self.listed} pictures, {names - absent} of {names} names occur there, in percent"]
        if absent:
            more = ", ..." if absent > SHOWN else ""
            said.append(f"no segment of {', '.join(self.without_truth[:SHOWN])}{more}")
        if self.without_masks:
            said.append(f"{self.without_masks} of these pictures have no mask at all")
        return said

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN as None."""
        held = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "reading"}
        plain: dict[str, Any] = without_nan({**held, "rows": [asdict(row) for row in self.rows]})
        return {**plain, "annotations": self.reading.to_json()}

    def write(self, path: str | Path) -> Path:
        """Writes the JSON, atomically."""
        return write_json(path, self.to_json())


def _numbers(row: PanopticRow) -> Sequence[float]:
    overall = row.quality.overall
    return (
        overall.pq, overall.sq, overall.rq, row.quality.things.pq, row.quality.stuff.pq, row.mask_ap, row.mask_ap50,
        row.miou, row.accuracy, row.class_accuracy, row.covered,
    )  # fmt: skip


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"
