"""The commands that rows are made of: which public function each is, how it is typed, and the scores that it finds."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from clipself.data.prepare import prepare
from clipself.detection.evaluate import evaluate_detector
from clipself.detection.report import DetectionReport
from clipself.panoptic.evaluate import evaluate_panoptic
from clipself.panoptic.report import PanopticReport
from clipself.regions.evaluate import evaluate_regions
from clipself.regions.report import RegionReport
from clipself.segmentation.evaluate import evaluate_segmenters
from clipself.segmentation.report import SegmentationReport
from clipself.workflows.imports import import_detector, import_masks, import_segmenter


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a measurement says.

    Attributes:
        scores: Score -> percent; NaN where there is nothing to score.
        images: How many pictures were seen.
        listed: How many the data holds.
        report: The family's own report, plain values.
    """

    scores: Mapping[str, float]
    images: int
    listed: int
    report: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One command.

    Attributes:
        run: Its public function, called with the settings as keywords.
        found: What it returns -> scores; None for one that measures nothing and writes `out`.
        spelled: Settings whose flag has another name.
    """

    run: Callable[..., Any]
    found: Callable[[Any], Found] | None = None
    spelled: Mapping[str, str] = field(default_factory=dict)


def of_regions(reports: Sequence[RegionReport]) -> Found:
    """Mean class accuracy, top-1 and top-5, of the first model."""
    report, named = reports[0], {"boxes": "boxes", "thing_masks": "things", "stuff_masks": "stuff"}
    scores: dict[str, float] = {}
    for mode, score in report.scores.items():
        if mode in named:
            scores |= {named[mode]: score.top1, f"{named[mode]}5": score.top5}
    return Found(scores=scores, images=report.images, listed=report.listed, report=report.to_json())


def of_detections(reports: Sequence[DetectionReport]) -> Found:
    """AP50 of groups, or federated AP by frequency."""
    named = {"AP50 novel": "novel", "AP50 base": "base", "AP50 all": "all", "APr": "rare", "APc": "common",
             "APf": "frequent", "AP": "ap"}  # fmt: skip
    report = reports[0]
    scores = {named[name]: value for name, value in report.summary.items() if name in named}
    return Found(scores=scores, images=report.images, listed=report.listed, report=report.to_json())


def of_pixels(reports: Sequence[SegmentationReport]) -> Found:
    """Mean IoU and mean accuracy."""
    report = reports[0]
    scores = {"miou": report.scores.miou, "macc": report.scores.macc}
    return Found(scores=scores, images=report.images, listed=report.listed, report=report.to_json())


def of_segments(report: PanopticReport) -> Found:
    """PQ, mask AP and mIoU of the first model by the first way of scoring."""
    row = report.rows[0]
    scores = {"pq": row.quality.overall.pq, "map": row.mask_ap, "miou": row.miou}
    return Found(scores=scores, images=report.images, listed=report.listed, report=report.to_json())


def _prepare(*, archive: str, root: str, out: str, partial_archive: bool = False) -> Path:
    return prepare(archive, root, out, partial_archive=partial_archive)


CALLS: Final[Mapping[str, Call]] = {
    "evaluate regions": Call(run=evaluate_regions, found=of_regions),
    "detect evaluate": Call(run=evaluate_detector, found=of_detections),
    "segment evaluate": Call(run=evaluate_segmenters, found=of_pixels),
    "panoptic evaluate": Call(run=evaluate_panoptic, found=of_segments),
    "detect import": Call(run=import_detector),
    "segment import": Call(run=import_segmenter),
    "panoptic import": Call(run=import_masks, spelled={"system": "as"}),
    "data prepare": Call(run=_prepare),
}
"""Command -> what it is."""


def spell(command: str, settings: Mapping[str, Any]) -> str:
    """A command with its settings, as it is typed."""
    words = ["clipself", *command.split()]
    for name, value in _flat(settings):
        flag = CALLS[command].spelled.get(name, name).replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else _negated(flag))
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple | list) else [value])]
    return shlex.join(words)


def _flat(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Nested settings by dotted names; what is None is left out."""
    found: list[tuple[str, Any]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{name}.")
        elif value is not None:
            found.append((f"{before}{name}", value))
    return found


def _negated(flag: str) -> str:
    outer, dot, inner = flag.rpartition(".")
    return f"--{outer}{dot}no-{inner}"
