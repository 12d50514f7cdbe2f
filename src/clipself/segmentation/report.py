"""What an evaluation found: one table of groups, one of classes, JSON for both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clipself.data.coco.report import ReadReport
from clipself.files import without_nan, write_json
from clipself.metrics.confusion import SemanticScores

MOST_TOLD: Final = 8
"""Names in a line of names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationReport:
    """Scores of one segmenter on one set.

    Attributes:
        title: What was evaluated.
        images: How many were read.
        listed: How many the set holds.
        reading: What was read of the annotations against what they list.
        names: Class names in the order of the scores.
        scores: All numbers, in percent.
        groups: Classes of each group, such as "base" and "novel".
        settings: How it was done.
        seconds_per_image: Time of the segmenter alone.
    """

    title: str
    images: int
    listed: int
    reading: ReadReport
    names: tuple[str, ...]
    scores: SemanticScores
    groups: Mapping[str, Sequence[int]]
    settings: Mapping[str, Any]
    seconds_per_image: float

    @property
    def absent(self) -> list[str]:
        """Classes of which no pixel was labelled; they are in no mean."""
        return [name for name, pixels in zip(self.names, self.scores.pixels_K.tolist(), strict=True) if not pixels]

    def summary(self) -> dict[str, float]:
        """mIoU, mAcc, fwIoU and pixel accuracy, and the first two of every group."""
        scores = self.scores
        row = {"mIoU": scores.miou, "mAcc": scores.macc, "fwIoU": scores.fwiou, "pAcc": scores.pacc}
        for name, classes in self.groups.items():
            row[f"mIoU {name}"], row[f"mAcc {name}"] = scores.mean_over(classes)
        return row

    def counted(self) -> str:
        """One line: pictures read of those listed, classes with pixels of those named, and which have none."""
        absent = self.absent
        line = (
            f"{self.images} of {self.listed} pictures, {len(self.names) - len(absent)} of {len(self.names)} classes "
            "occur"
        )
        return f"{line}; never labelled: {tell(absent)}" if absent else line

    def per_class(self) -> list[dict[str, Any]]:
        """Every class that the ground truth holds, with its pixels."""
        scores = self.scores
        columns = zip(self.names, scores.iou_K.tolist(), scores.acc_K.tolist(), scores.pixels_K.tolist(), strict=True)
        return [{"name": n, "IoU": iou, "acc": acc, "pixels": px} for n, iou, acc, px in columns if not math.isnan(iou)]

    def to_table(self, *, classes: bool = False) -> str:
        """The summary; ahead of it the classes where wanted, the best first."""
        return compare_reports([self], per_class=classes)

    def to_json(self) -> dict[str, Any]:
        """Plain values; a NaN becomes null."""
        return {
            "title": self.title,
            "images": self.images,
            "images_listed": self.listed,
            "classes": len(self.names),
            "classes_present": len(self.per_class()),
            "classes_absent": self.absent,
            "scores": without_nan(self.summary()),
            "per_class": self.per_class(),
            "seconds_per_image": self.seconds_per_image,
            "settings": dict(self.settings),
            "annotations": self.reading.to_json(),
        }

    def write(self, path: str | Path) -> Path:
        """Writes the JSON."""
        return write_json(path, self.to_json())


def tell(names: Sequence[str]) -> str:
    """The first few names, and how many there are more."""
    rest = len(names) - MOST_TOLD
    return ", ".join(names[:MOST_TOLD]) + (f" and {rest} more" if rest > 0 else "")


def class_table(report: SegmentationReport) -> str:
    """IoU and accuracy in percent, one line a class, the best first."""
    rows = sorted(report.per_class(), key=lambda row: -row["IoU"])
    head = [f"{report.title}", f"  {'IoU':>6} {'acc':>6}  class"]
    return "\n".join([*head, *(f"  {row['IoU']:6.1f} {row['acc']:6.1f}  {row['name']}" for row in rows)])


def compare_reports(reports: Sequence[SegmentationReport], *, per_class: bool = False) -> str:
    """One line a report, in percent, with "-" for a group that the data lacks; below them what was counted and read.

    Args:
        reports: What to compare.
        per_class: Whether a table of the classes of each stands ahead.

    Raises:
        ValueError: There are no reports.
    """
    if not reports:
        raise ValueError("there is nothing to compare")
    columns = list(reports[0].summary())
    width = max(len("model"), *(len(report.title) for report in reports))
    lines = [f"{'model':<{width}}  " + "  ".join(f"{name:>12}" for name in columns)]
    for report in reports:
        row = report.summary()
        cells = [f"{'-':>12}" if math.isnan(row[name]) else f"{row[name]:12.2f}" for name in columns]
        lines.append(f"{report.title:<{width}}  " + "  ".join(cells))
    ahead = [class_table(report) + "\n" for report in reports] if per_class else []
    told = [line for report in reports for line in (report.counted(), *report.reading.remarked())]
    return "\n".join([*ahead, *lines, *dict.fromkeys(told)])
