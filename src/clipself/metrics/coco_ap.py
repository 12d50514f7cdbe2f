"""COCO's average precision by class and by group of classes, through pycocotools."""

import contextlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipself.metrics.own_ids import Id, Renumbered, renumber
from clipself.ops.run_lengths import shorten


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionScores:
    """Average precision, in [0, 1].

    Attributes:
        summary: Name -> value; NaN where there is no truth to find. COCO files: AP, AP50, AP75, APs, APm, APl, and
            AP50 of the groups; LVIS files also APr, APc, APf, AR@300.
        ap_per_class: The file's own category id -> AP over IoU .50:.95; NaN for a class without truth.
        ap50_per_class: Category id -> AP at IoU .50.
    """

    summary: Mapping[str, float]
    ap_per_class: Mapping[Id, float] = field(default_factory=dict)
    ap50_per_class: Mapping[Id, float] = field(default_factory=dict)


def coco_ap(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    groups: Mapping[str, Iterable[Id]] | None = None,
    iou_type: str = "bbox",
    told: bool = False,
) -> DetectionScores:
    """Scores COCO results as the official tool does: at most 100 detections of an image *and class*.

    Ids may be numbers or text, count from anywhere and stand in any order; see `renumber`.

    Args:
        truth: A COCO instances file, read; see `renumber` for what its rows may lack.
        results: Rows of `image_id`, `category_id`, `bbox` (`xywh`) or `segmentation`, `score`.
        groups: Name -> category ids; each adds "AP50 <name>", the plain mean over those of its classes that occur.
            One of which the truth lists no class at all is refused.
        iou_type: "bbox" or "segm".
        told: Whether what is odd of the truth was told where its file was read.

    Raises:
        ValueError: A row names an image or class that the truth does not list, or cannot be scored.
    """
    precision_TRKAM, ids = evaluate_precision(truth, results, iou_type=iou_type, most=(1, 10, 100), told=told)
    per_class = mean_over(precision_TRKAM[:, :, :, 0, -1], axis=(0, 1))
    ap50_per_class = mean_over(precision_TRKAM[0, :, :, 0, -1], axis=0)
    ap50 = dict(zip(ids, ap50_per_class.tolist(), strict=True))
    summary = standard_summary(precision_TRKAM)
    for name, group in (groups or {}).items():
        group = list(group)
        if group and not set(group) & set(ids):
            raise ValueError(f"the group {name!r} holds {shorten(group)}, no id of a class (there are {shorten(ids)})")
        summary[f"AP50 {name}"] = plain_mean(ap50[category] for category in group if category in ap50)
    return DetectionScores(
        summary=summary,
        ap_per_class=dict(zip(ids, per_class.tolist(), strict=True)),
        ap50_per_class=ap50,
    )


def standard_summary(precision_TRKAM: NDArray[np.float64]) -> dict[str, float]:
    """AP, AP50, AP75 and AP by size, over all classes."""
    last = precision_TRKAM[..., -1]
    parts = {"AP": last[:, :, :, 0], "AP50": last[0, :, :, 0], "AP75": last[5, :, :, 0]}
    parts |= {name: last[:, :, :, place] for place, name in enumerate(("APs", "APm", "APl"), start=1)}
    return {name: float(mean_over(part, axis=None)) for name, part in parts.items()}


def evaluate_precision(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    iou_type: str,
    most: tuple[int, ...],
    matched: Callable[[Any, Renumbered], object] | None = None,
    keep: Any = None,
    told: bool = False,
    checked: bool = False,
) -> tuple[NDArray[np.float64], list[Any]]:
    """Runs pycocotools without its printing.

    Args:
        truth: A COCO instances file, read.
        results: COCO results.
        iou_type: "bbox" or "segm".
        most: Limits of detections of an image and class.
        matched: Receives the evaluator after it has matched, and what it was given, ahead of accumulating.
        keep: Receives the evaluator after it has accumulated, for more of its numbers.
        told: See `renumber`.
        checked: See `renumber`.

    Returns:
        Precision (threshold, recall, class, area, limit) with -1 where there is no truth, and the file's own ids of
        its categories.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    own = renumber(truth, results, iou_type=iou_type, told=told, checked=checked)
    with contextlib.redirect_stdout(io.StringIO()):
        held = COCO()
        held.dataset = own.truth
        held.createIndex()
        found = held.loadRes(own.results) if own.results else _nothing(held)
        run = COCOeval(held, found, iou_type)
        run.params.maxDets = list(most)
        run.evaluate()
        if matched is not None:
            matched(run, own)
        run.accumulate()
    if keep is not None:
        keep(run)
    return np.asarray(run.eval["precision"], dtype=np.float64), list(own.categories)


def _nothing(held: Any) -> Any:
    from pycocotools.coco import COCO

    empty = COCO()
    empty.dataset = {**held.dataset, "annotations": []}
    empty.createIndex()
    return empty


def mean_over(values: NDArray[np.float64], *, axis: int | tuple[int, ...] | None) -> NDArray[np.float64]:
    """Mean of what is not -1, NaN where all is."""
    valid = values > -1
    total = np.where(valid, values, 0.0).sum(axis=axis)
    count = valid.sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def plain_mean(values: Iterable[float]) -> float:
    """Mean of what is not NaN, NaN where all is."""
    kept = [value for value in values if value == value]
    return sum(kept) / len(kept) if kept else float("nan")
