"""What an evaluation found: a table of groups, one of classes, JSON for both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clipself.data.coco.report import ReadReport
from clipself.files import without_nan

HEADINGS: Final = ("AP50 novel", "AP50 base", "AP50 all", "AP", "AP50", "APr", "APc", "APf", "AR@300")


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionReport:
    """Scores of one detector.

    Attributes:
        title: What was scored.
        images: How many images.
        listed: How many the data set has.
        reading: What was read of the annotations against what they list.
        summary: Name -> value in percent.
        per_class: Rows of name, group and values in percent.
        results: COCO results of all images.
    """

    title: str
    images: int
    listed: int
    reading: ReadReport
    summary: Mapping[str, float]
    per_class: tuple[Mapping[str, Any], ...]
    results: tuple[Mapping[str, Any], ...]

    @property
    def without_truth(self) -> list[str]:
        """Classes that have nothing to be found in these images; no mean counts them."""
        return [str(row["name"]) for row in self.per_class if row["AP50"] != row["AP50"]]

    def counts(self) -> str:
        """What was scored, in one line."""
        absent, classes = self.without_truth, len(self.per_class)
        some = f" (none of {', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''})" if absent else ""
        return f"{self.images} of {self.listed} images, {classes - len(absent)} of {classes} classes occur{some}"

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the detections."""
        return {
            "title": self.title,
            "images": self.images,
            "listed": self.listed,
            "annotations": self.reading.to_json(),
            "classes": len(self.per_class),
            "classes_without_truth": self.without_truth,
            "summary": without_nan(self.summary),
            "per_class": without_nan(self.per_class),
        }


def compare_reports(reports: Sequence[DetectionReport]) -> str:
    """One line a report, in percent; what was scored ahead of them, what was remarked below."""
    names = [name for name in HEADINGS if any(name in report.summary for report in reports)]
    width = max(10, *(len(report.title) for report in reports))
    head = " " * width + "".join(f"{name:>12}" for name in names)
    lines = [
        f"{report.title:<{width}}" + "".join(f"{report.summary.get(name, float('nan')):12.1f}" for name in names)
        for report in reports
    ]
    read = dict.fromkeys(line for report in reports for line in report.reading.remarked())
    return "\n".join([f"{reports[0].counts()}; percent", head, *lines, *read])


def class_table(report: DetectionReport) -> str:
    """One line a class, best first."""
    rows = sorted(
        report.per_class, key=lambda row: (row["group"], -(row["AP50"] if row["AP50"] == row["AP50"] else -1))
    )
    width = max(len(str(row["name"])) for row in rows)
    return "\n".join(
        [f"{'class':<{width}}  group   AP    AP50"]
        + [f"{row['name']:<{width}}  {row['group']:<5} {row['AP']:6.1f} {row['AP50']:6.1f}" for row in rows]
    )
