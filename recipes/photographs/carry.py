"""What a refined model is good for: regions, segmentation, panoptic maps and a detector, raw beside refined."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from curve import measure

from clipself import evaluate_detector, evaluate_segmenters, load_clip, train_detector, train_segmenter
from clipself.data.labelled import open_labelled
from clipself.files import without_nan, write_json
from clipself.workflows.comparison import Comparison
from clipself.workflows.side_by_side import compare
from data import Photographs, base_and_novel

log = logging.getLogger(__name__)

SIDE: Final = 480
"""Side at which every dense map of the tables is read, in pixels."""
MEASURED_ON: Final = "val2017"
SEGMENTER: dict[str, Any] = {"recipe": "small-catseg", "max_steps": 1200}
DETECTOR: dict[str, Any] = {"recipe": "small", "max_steps": 2400}
"""Heads and their steps, alike for every backbone."""


def kept(path: Path, key: Any, make: Callable[[], Any]) -> Any:
    """What a file holds under this key; made and written where it does not."""
    if path.is_file():
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["key"] == key:
            return held["scores"]
        log.warning("%s was measured on other weights or by other settings; it is measured again", path)
    scores = without_nan(make())
    write_json(path, {"key": key, "scores": scores})
    return scores


def finished(folder: Path, steps: int) -> bool:
    """Whether a training has made its steps, so that there is nothing to go on with."""
    result = folder / "result.json"
    return result.is_file() and json.loads(result.read_text(encoding="utf-8"))["steps"] >= steps


def region_scores(photographs: Photographs, models: Mapping[str, str], out: Path) -> dict[str, dict[str, Any]]:
    """The curve's measures of every model, on official boxes of 80 names and on panoptic labels of 133.

    Args:
        photographs: The data.
        models: Title -> model, the original first.
        out: Folder of a file a model and labels.

    Returns:
        Labels -> title -> measure -> percent.
    """
    original = load_clip(next(iter(models.values())))
    found: dict[str, dict[str, Any]] = {}
    for labels in ("instances", "panoptic"):
        data = open_labelled(photographs.annotations(f"{labels}_{MEASURED_ON}"), photographs.images(MEASURED_ON))
        found[labels] = {}
        for title, model in models.items():
            clip = load_clip(model)
            key = {"weights": clip.weights_hash(), "side": SIDE, "photographs": len(data)}
            found[labels][title] = kept(
                out / f"{labels}-{title}.json",
                key,
                lambda clip=clip, data=data: measure(clip, data, original=original, image_size=SIDE),
            )
    return found


def table_scores(photographs: Photographs, models: Mapping[str, str], out: Path) -> Comparison:
    """Regions, mIoU without training, PQ of the true masks and crops: `clipself compare`, a file a row."""
    comparison = compare(
        annotations=photographs.annotations(f"panoptic_{MEASURED_ON}"), images=photographs.images(MEASURED_ON),
        model=tuple(models.values()), readouts=("value",), image_size=SIDE, out=out,
    )  # fmt: skip
    print(comparison.to_table())
    return comparison


def segmenter_scores(
    photographs: Photographs, models: Mapping[str, str], out: Path, *, scale: float = 1.0
) -> dict[str, Any]:
    """CAT-Seg on each model: trained on the panoptic photographs of the training half, measured on the other."""
    found = {}
    for title, model in models.items():
        folder = out / "segmenters" / title
        settings = scaled(SEGMENTER, scale)
        if not finished(folder, settings["max_steps"]):
            train_segmenter(
                annotations=photographs.annotations("panoptic_train2017"), images=photographs.images("train2017"),
                model=model, out=folder, resume="auto", save_every=50, workers=0, **settings,
            )  # fmt: skip
        found[title] = kept(
            folder / "scores.json", digest(model, scale), lambda folder=folder: segmented(photographs, folder)
        )
    return found


def segmented(photographs: Photographs, folder: Path) -> dict[str, float]:
    """The mIoU of a trained segmenter."""
    (report,) = evaluate_segmenters(
        checkpoint=(folder,), annotations=photographs.annotations(f"panoptic_{MEASURED_ON}"),
        images=photographs.images(MEASURED_ON), mode="whole", shortest=256, out=folder / "pictures",
    )  # fmt: skip
    return report.summary()


def detector_scores(
    photographs: Photographs, models: Mapping[str, str], out: Path, *, scale: float = 1.0
) -> dict[str, Any]:
    """A small F-ViT on each model: boxes of the pool and COCO's training half but for the novel names of OV-COCO."""
    found, (_, withheld) = {}, base_and_novel(photographs.detection)
    for title, model in models.items():
        folder = out / "detectors" / title
        settings = scaled(DETECTOR, scale)
        if not finished(folder, settings["max_steps"]):
            train_detector(
                annotations=photographs.detection, images=photographs.pictures, novel=withheld, model=model, out=folder,
                resume="auto", save_every=50, workers=0, **settings,
            )  # fmt: skip
        found[title] = kept(
            folder / "ap.json", digest(model, scale), lambda folder=folder: detected(photographs, folder)
        )
    return found


def detected(photographs: Photographs, folder: Path) -> dict[str, float]:
    """AP50 of a trained detector on the published split."""
    annotations = photographs.annotations(f"instances_{MEASURED_ON}")
    base, novel = base_and_novel(annotations)
    (report,) = evaluate_detector(
        checkpoint=str(folder), annotations=annotations, images=photographs.images(MEASURED_ON), base=base, novel=novel
    )
    return dict(report.summary)


def scaled(settings: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """Settings of a training with a share of its steps."""
    return {**settings, "max_steps": max(1, round(settings["max_steps"] * scale))}


def digest(model: str, scale: float) -> dict[str, Any]:
    """What heads depend on beside the data."""
    return {"weights": load_clip(model).weights_hash(), "scale": scale}
