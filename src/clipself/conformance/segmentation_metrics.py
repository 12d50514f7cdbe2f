"""`seg_metrics`: scores of the official evaluators on stored maps; one check for each half of the manifest."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch

from clipself.conformance.check import Check, compare, tolerance_of, unchecked
from clipself.conformance.dense_models import Arrays
from clipself.metrics.confusion import ConfusionMatrix
from clipself.metrics.panoptic_quality import LabelledSegment, PanopticQuality, Quality

Half = Callable[[Mapping[str, Any], Arrays, float], list[Check]]


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Scores the stored maps and compares every stored number; a half that nobody checks is a failure."""
    atol, _ = tolerance_of(manifest, default=1e-6)
    checks = []
    for name in ("miou", "pq"):
        if name in manifest and name in HALVES:
            checks += HALVES[name](manifest[name], arrays, atol)
        elif name in manifest:
            checks.append(unchecked(name))
    return checks


def check_semantic_scores(half: Mapping[str, Any], arrays: Arrays, atol: float) -> list[Check]:
    """MIoU and its companions, and each class; null in the manifest is a class without ground truth."""
    meter = ConfusionMatrix(half["num_classes"], ignore_label=half["ignore_label"])
    for predicted, labels in zip(arrays["pred"], arrays["gt"], strict=True):
        meter.update(torch.from_numpy(predicted.astype(np.int64)), torch.from_numpy(labels.astype(np.int64)))
    scores = meter.compute()
    ours = {"mIoU": scores.miou, "fwIoU": scores.fwiou, "mACC": scores.macc, "pACC": scores.pacc}
    for place in range(half["num_classes"]):
        ours[f"IoU-c{place}"], ours[f"ACC-c{place}"] = float(scores.iou_K[place]), float(scores.acc_K[place])
    checks = []
    for name, value in half["results"].items():
        if value is None:
            checks.append(Check(key=f"miou/{name} absent", difference=float(ours[name] == ours[name]), tolerance=0.0))
        else:
            checks.append(compare(f"miou/{name}", ours[name], value, atol=atol))
    return checks


def check_panoptic_quality(half: Mapping[str, Any], arrays: Arrays, atol: float) -> list[Check]:
    """PQ, SQ, RQ and the counts behind them."""
    ids = [row["id"] for row in half["categories"]]
    label_of = {category: label for label, category in enumerate(ids)}
    meter = PanopticQuality([bool(row["isthing"]) for row in half["categories"]])
    for index, segments in enumerate(half["segments"]):
        meter.update(
            arrays["pan_pred"][index],
            {row["id"]: label_of[row["category_id"]] for row in segments["pred"]},
            arrays["pan_gt"][index],
            [
                LabelledSegment(id=row["id"], label=label_of[row["category_id"]], is_crowd=bool(row["iscrowd"]))
                for row in segments["gt"]
            ],
        )
    scores, results = meter.compute(), half["results"]
    groups = {"all": scores.overall, "things": scores.things, "stuff": scores.stuff}
    checks = []
    for name, quality in groups.items():
        checks += _compare_quality(f"pq/{name}", quality, results[name], atol)
        checks.append(compare(f"pq/{name}/n", quality.classes, results[name]["n"], atol=0.0))
    for category, row in results["per_class"].items():
        checks += _compare_quality(f"pq/{category}", scores.per_class[label_of[int(category)]], row, atol)
    for category, row in results["counts"].items():
        label = label_of[int(category)]
        ours = [meter.iou_sum[label], meter.hits[label], meter.false[label], meter.missed[label]]
        theirs = [row[name] for name in ("iou", "tp", "fp", "fn")]
        checks.append(compare(f"pq/{category}/iou tp fp fn", ours, theirs, atol=atol))
    return checks


def _compare_quality(key: str, quality: Quality, row: Mapping[str, float], atol: float) -> list[Check]:
    ours = {"pq": quality.pq, "sq": quality.sq, "rq": quality.rq}
    return [compare(f"{key}/{name}", value / 100, row[name], atol=atol) for name, value in ours.items()]


HALVES: Final[Mapping[str, Half]] = {"miou": check_semantic_scores, "pq": check_panoptic_quality}
"""Half of the manifest -> its check."""
