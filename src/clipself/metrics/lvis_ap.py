"""LVIS's federated average precision, as filters around and within the COCO evaluator."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from clipself.choices import pick
from clipself.metrics.coco_ap import DetectionScores, evaluate_precision, mean_over, plain_mean, standard_summary
from clipself.metrics.own_ids import Renumbered
from clipself.metrics.scored_rows import PARTS, check_results, check_truth, refuse_image

log = logging.getLogger(__name__)

MOST: Final = 300
"""Detections of an image, over all its classes."""


def lvis_ap(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, iou_type: str = "bbox", most: int = MOST,
    told: bool = False,
) -> DetectionScores:  # fmt: skip
    """Scores results on an LVIS file.

    Source: LVIS (arXiv:1908.03195), Sec. 3. A class is scored in an image only if it is annotated there or listed as
    absent; unmatched detections of a class that is not exhaustively annotated count neither way, wherever they lie.
    What has no area is passed over, in the truth and among the results, as in the official tool.

    Args:
        truth: An LVIS v1 file, read: images carry `neg_category_ids` and `not_exhaustive_category_ids`.
        results: COCO results.
        iou_type: "bbox" or "segm".
        most: Detections of an image that count, the best over all classes.
        told: Whether what is odd of the truth was told where its file was read.

    Returns:
        AP, AP50, AP75, APs, APm, APl, APr, APc, APf and AR@300, with the classes' own.

    Raises:
        ValueError: A row names an image that the truth does not list, or cannot be scored.
    """
    check_truth(truth)
    results = check_results(results, pick(PARTS, iou_type, what="iou_type"))
    _check_lvis(truth, results)
    present: dict[Any, set[Any]] = defaultdict(set)
    for row in truth["annotations"]:
        if not _is_flat(row):
            present[row["image_id"]].add(row["category_id"])
    scored = {image["id"]: present[image["id"]] | set(image.get("neg_category_ids") or ()) for image in truth["images"]}
    kept = [row for row in best_per_image(results, most) if row["category_id"] in scored.get(row["image_id"], ())]
    recall: dict[str, float] = {}

    def read_recall(run: Any) -> None:
        recall[f"AR@{most}"] = float(mean_over(np.asarray(run.eval["recall"])[:, :, 0, -1], axis=None))

    precision_TRKAM, ids = evaluate_precision(
        truth, kept, iou_type=iou_type, most=(most,), matched=_excuse, keep=read_recall, told=told, checked=True
    )
    per_class = dict(zip(ids, mean_over(precision_TRKAM[:, :, :, 0, -1], axis=(0, 1)).tolist(), strict=True))
    ap50 = dict(zip(ids, mean_over(precision_TRKAM[0, :, :, 0, -1], axis=0).tolist(), strict=True))
    summary = standard_summary(precision_TRKAM)
    for letter in "rcf":
        group = [row["id"] for row in truth["categories"] if row.get("frequency") == letter]
        summary[f"AP{letter}"] = plain_mean(per_class[category] for category in group)
    return DetectionScores(summary={**summary, **recall}, ap_per_class=per_class, ap50_per_class=ap50)


def _check_lvis(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> None:
    """Refuses results of other images, which the filters would drop, and tells files without LVIS's lists."""
    listed = {image["id"] for image in truth["images"]}
    for row in results:
        if row["image_id"] not in listed:
            refuse_image(row)
    if not any("neg_category_ids" in image for image in truth["images"]):
        log.warning('no image lists "neg_category_ids", as LVIS files do: a class is scored only in images where it is '
                    "annotated, so that false ones elsewhere count for nothing")  # fmt: skip


def best_per_image(results: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """The highest-scored results of each image, over all its classes."""
    by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for row in results:
        by_image[row["image_id"]].append(row)
    return [row for rows in by_image.values() for row in sorted(rows, key=lambda row: -row["score"])[:most]]


def _is_flat(row: Mapping[str, Any]) -> bool:
    """Whether a row covers nothing: neither its box nor, where it is stated, its area."""
    area, box = row.get("area"), row.get("bbox")
    flat = 0 in list(box[2:]) if isinstance(box, list | tuple | np.ndarray) else area == 0
    return not area and flat


def _excuse(run: Any, own: Renumbered) -> None:
    """Passes over what is flat, and detections that match nothing where their class is annotated in part."""
    class_of = {identity: number for number, identity in enumerate(own.categories, start=1)}
    partial = {
        (image["id"], class_of[one])
        for image in own.truth["images"]
        for one in image.get("not_exhaustive_category_ids") or ()
        if one in class_of
    }
    # The evaluator holds each row once for every range of areas.
    true_flat, found_flat = (
        {number for number, row in rows.anns.items() if _is_flat(row)} for rows in (run.cocoGt, run.cocoDt)
    )
    for held in run.evalImgs:
        if held is None:
            continue
        flat_G, flat_D = (
            np.asarray([one in flat for one in held[ids]], dtype=bool)
            for flat, ids in ((true_flat, "gtIds"), (found_flat, "dtIds"))
        )
        excused_D = flat_D | ((held["image_id"], held["category_id"]) in partial)
        held["gtIgnore"] = np.logical_or(held["gtIgnore"], flat_G)
        held["dtIgnore"] = np.logical_or(held["dtIgnore"], (held["dtMatches"] == 0) & excused_D)
