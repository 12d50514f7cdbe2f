"""What an evaluation found: a table for people, JSON for programs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from clipself.data.coco.report import ReadReport
from clipself.files import without_nan, write_json
from clipself.text.columns import align

TITLES = {"boxes": "boxes", "thing_masks": "thing masks", "stuff_masks": "stuff masks", "crops": "thing crops"}
TITLES["stuff_crops"] = "stuff crops"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModeScore:
    """Score of one mode, in percent.

    Attributes:
        top1: Mean class accuracy.
        top5: The same with five guesses.
        regions: How many regions were classified.
        classes: How many classes occur among them.
        per_class: Class name -> {"top1", "top5", "regions"}.
    """

    top1: float
    top5: float
    regions: int
    classes: int
    per_class: dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionReport:
    """Region classification of one model.

    Attributes:
        model: What was evaluated.
        weights_hash: Digest of its weights.
        settings: Everything that the numbers depend on.
        images: How many images were seen.
        listed: How many the data holds.
        reading: What was read of the annotations against what they list.
        scores: Mode -> score.
    """

    model: str
    weights_hash: str
    settings: dict[str, Any]
    images: int
    listed: int
    reading: ReadReport
    scores: dict[str, ModeScore]

    def to_table(self) -> str:
        """The scores as aligned text."""
        return compare_reports([self])

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN as None."""
        held = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "reading"}
        held["scores"] = {mode: asdict(score) for mode, score in self.scores.items()}
        plain: dict[str, Any] = without_nan(held)
        return {**plain, "annotations": self.reading.to_json()}

    def write(self, path: str | Path) -> Path:
        """Writes the JSON, atomically."""
        return write_json(path, self.to_json())


def compare_reports(reports: Sequence[RegionReport], *, names: Sequence[str] | None = None) -> str:
    """Several models side by side: one row each, top-1 / top-5 mean class accuracy in percent; then what was read.

    Args:
        reports: What to compare.
        names: Row titles; the models' names if not given.

    Raises:
        ValueError: There is nothing to compare.
    """
    if not reports:
        raise ValueError("there are no reports to compare; pass at least one")
    modes = [mode for mode in TITLES if any(mode in report.scores for report in reports)]
    head = ["model", *(TITLES[mode] for mode in modes)]
    body = [
        [title, *(_cell(report.scores.get(mode)) for mode in modes)]
        for title, report in zip(names or [report.model for report in reports], reports, strict=True)
    ]
    counts = ["regions / classes", *(_counts(reports[0].scores.get(mode)) for mode in modes)]
    lines = align(head, [*body, counts])
    told = [line for each in reports for line in (f"{each.images} of {each.listed} images", *each.reading.remarked())]
    return "\n".join(["mean class accuracy in percent, top-1 / top-5", *lines, *dict.fromkeys(told)])


def _cell(score: ModeScore | None) -> str:
    return "-" if score is None or math.isnan(score.top1) else f"{score.top1:.1f} / {score.top5:.1f}"


def _counts(score: ModeScore | None) -> str:
    return "-" if score is None else f"{score.regions} / {score.classes}"
