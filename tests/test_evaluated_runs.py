"""An evaluation inside a run says what the evaluation command says of what the run has saved."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from tests.support.families import FAMILIES, write_place
from tests.support.tiny import tiny_openai_clip

from clipself import evaluate_detector, evaluate_panoptic, evaluate_regions, evaluate_segmenters
from clipself.backbones.export import save_clip
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

CASES: Final = [
    *(pytest.param(name, {}, id=name) for name, family in FAMILIES.items() if family.module not in NO_COMMAND),
    # read otherwise than a CLIP is by default
    pytest.param("distill-patches", {"readout": "qq", "alpha": 1.0}, id="another readout"),
    pytest.param("distill-patches", {"text_from": "./donor", "image_size": 96}, id="another text tower and size"),
]


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


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_place(tmp_path_factory.mktemp("evaluated"))
    save_clip(tiny_openai_clip(7, layers=4), folder / "donor")
    write_few_classes(folder)
    return folder


@pytest.fixture(autouse=True)
def there(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.chdir(world)
        patch.setenv("CLIPSELF_CACHE", str(world / "cache"))
        yield


@pytest.fixture
def detections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each evaluation of a detector has found; an AP of 0 would be that of any untrained heads."""
    found: list[Any] = []
    score = evaluate.score_detector

    def watched(*given: Any, **options: Any) -> Any:
        report = score(*given, **options)
        found.append([(row["category_id"], *row["bbox"], row["score"]) for row in report.results])
        return report

    monkeypatch.setattr(evaluate, "score_detector", watched)
    monkeypatch.setattr("clipself.detection.train.score_detector", watched)
    return found


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_command_says_the_same(
    name: str, options: Mapping[str, Any], tmp_path: Path, detections: list[Any]
) -> None:
    family, run = FAMILIES[name], tmp_path / "run"
    labels = {"annotations": f"few/{'instances' if 'detection' in family.module else 'panoptic'}.json"}
    labels["images"] = family.labels[1]
    inside = {f"evaluate_{key}": value for key, value in labels.items()}
    family.train(run, evaluate_every=4, evaluate_limit=2, **inside, **options)
    (record,) = read_metrics(run, kind="evaluation")
    said = COMMANDS[family.module](run, **labels, limit=2, device="cpu")
    numbers = {key: value for key, value in said.items() if value == value}
    assert {key: record[key] for key in numbers} == pytest.approx(numbers, rel=1e-5, abs=1e-4)
    if detections:
        inside_run, by_command = map(torch.tensor, detections)
        torch.testing.assert_close(inside_run, by_command, rtol=1e-4, atol=1e-3)
    assert detections or any(numbers.values())
