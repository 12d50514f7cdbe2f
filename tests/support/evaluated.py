"""What evaluation commands say of a run's folder, beside what was said inside the run."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from tests.support.families import Family

from clipself import evaluate_detector, evaluate_panoptic, evaluate_regions, evaluate_segmenters
from clipself.detection import evaluate
from clipself.engine.log import read_metrics


def _regions(run: Path, **labels: Any) -> Mapping[str, Any]:
    (report,) = evaluate_regions(model=run / "blended", modes=["boxes", "thing_masks", "stuff_masks"], **labels)
    return {f"{mode}_top1": score.top1 for mode, score in report.scores.items()}


def _detector(run: Path, **labels: Any) -> Mapping[str, Any]:
    (report,) = evaluate_detector(checkpoint=run, **labels)
    return report.summary


def _segmenter(run: Path, **labels: Any) -> Mapping[str, Any]:
    (report,) = evaluate_segmenters(checkpoint=run, **labels)
    return report.summary()


def _masks(run: Path, **labels: Any) -> Mapping[str, Any]:
    (row,) = evaluate_panoptic(checkpoint=run, model="clip", scores="generator", **labels).rows
    return {"pq": row.quality.overall.pq, "mask_ap": row.mask_ap, "miou": row.miou, "covered": row.covered}


COMMANDS: Final[Mapping[str, Callable[..., Mapping[str, Any]]]] = {
    "clipself.distillation.train": _regions,
    "clipself.detection.train": _detector,
    "clipself.segmentation.train": _segmenter,
    "clipself.panoptic.train": _masks,
}
"""Module of a training -> what its evaluation command says of a run's folder."""

NO_COMMAND: Final = frozenset(("clipself.pretraining.train", "clipself.detection.region_prompt.train"))
"""Trainings whose evaluation, retrieval and the naming of true boxes, is made on the way alone."""

CLASSES: Final = ("cat", "dog", "sky", "grass")


def write_few_classes(folder: Path) -> None:
    """The scenes with two kinds of things and two of stuff: even a CLIP of random weights is right now and then."""
    labels = folder / "scenes/annotations"
    (folder / "few").mkdir()
    (folder / "few/panoptic").symlink_to(labels / "panoptic_val")
    for kind in ("panoptic", "instances"):
        held = json.loads((labels / f"{kind}_val.json").read_text())
        thing = {row["id"]: row["isthing"] for row in held["categories"]}
        rows = [row for one in held["annotations"] for row in one.get("segments_info", [one])]
        for row in rows:
            row["category_id"] = 1 + row["category_id"] % 2 + 2 * (not thing[row["category_id"]])
        count = 2 if kind == "instances" else 4
        held["categories"] = [{"id": 1 + n, "name": CLASSES[n], "isthing": int(n < 2)} for n in range(count)]
        (folder / f"few/{kind}.json").write_text(json.dumps(held))


def labels_of(family: Family) -> dict[str, str]:
    """Annotations and pictures to evaluate a training on; of few classes where a command evaluates it too."""
    if family.module in NO_COMMAND:
        return {"annotations": family.labels[0], "images": family.labels[1]}
    kind = "instances" if "detection" in family.module else "panoptic"
    return {"annotations": f"few/{kind}.json", "images": family.labels[1]}


@contextmanager
def watched_detections() -> Iterator[list[Any]]:
    """What each evaluation of a detector finds meanwhile; an AP of 0 would be that of any untrained heads."""
    found: list[Any] = []
    score = evaluate.score_detector

    def watched(*given: Any, **options: Any) -> Any:
        report = score(*given, **options)
        found.append([(row["category_id"], *row["bbox"], row["score"]) for row in report.results])
        return report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "score_detector", watched)
        patch.setattr("clipself.detection.train.score_detector", watched)
        yield found


def assert_the_command_says_the_same(family: Family, run: Path, *, limit: int, detections: list[Any]) -> None:
    """Compares the last evaluation inside a run with the command's of what the run has saved.

    Args:
        family: The training, in whose present folder `write_few_classes` has written.
        run: Evaluated on the first `limit` pictures of `labels_of`.
        limit: Pictures.
        detections: Of `watched_detections`, under which the run was made.
    """
    record = read_metrics(run, kind="evaluation")[-1]
    said = COMMANDS[family.module](run, **labels_of(family), limit=limit, device="cpu")
    numbers = {key: value for key, value in said.items() if value == value}
    assert {key: record[key] for key in numbers} == pytest.approx(numbers, rel=1e-5, abs=1e-4)
    if detections:
        inside_run, by_command = map(torch.tensor, detections[-2:])
        torch.testing.assert_close(inside_run, by_command, rtol=1e-4, atol=1e-3)
    assert detections or any(numbers.values())
