"""Pictures in, annotated pictures and COCO results out."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from clipself.backbones.packaged_heads import about_heads
from clipself.data.examples import examples_of
from clipself.data.images import Examples
from clipself.data.kept import Kept
from clipself.data.predictions import PredictionFolder
from clipself.detection.config import DetectionPredictConfig
from clipself.detection.detector import Detector, open_detector
from clipself.detection.protocol import NamedDetector
from clipself.detection.results import to_coco, to_records
from clipself.engine.pictures import resolve_pictures
from clipself.structures import Detections
from clipself.text.names import Names, parse_names
from clipself.text.templates import spoken_name
from clipself.viz.boxes import BASE, NOVEL, DrawnBox, draw_boxes
from clipself.viz.colours import class_colour


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictResult:
    """What was written.

    Attributes:
        pictures: Annotated pictures, one an image that could be read.
        results: JSON of what was found in each picture, and of what was left out.
        coco: COCO file: images, categories, and the detections as annotations with scores.
        found: Detections of each image; they lie on disk while the result is held.
        summary: A line for people, and what a packaged detector is.
    """

    pictures: Sequence[Path]
    results: Path
    coco: Path
    found: Sequence[Detections]
    summary: str


def predict_images(config: DetectionPredictConfig | None = None, /, **options: Any) -> PredictResult:
    """Finds named things in images and draws them.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `DetectionPredictConfig`; `images` may hold opened pictures too (PIL, arrays, tensors).

    Raises:
        ValueError: Names are missing or doubled, or no image can be read.
        FileNotFoundError: An image or the detector is missing.
    """
    made, listed = resolve_pictures(DetectionPredictConfig, config, **options)
    config = made  # of one type from here on
    detector = open_detector(config.checkpoint, device=config.device)
    names = look_for(
        detector, config.names, examples_of(config.examples, config.example_images), name=config.checkpoint
    )
    known = detector.trained_names if config.colours == "novel" else None
    everything = Kept[Detections](config.out, shared=[names])
    with PredictionFolder(config.out, listed, names) as folder:
        for picture, image in folder.read():
            with folder.attempt(picture):
                (found,) = detector.stream([image], threshold=config.threshold)
                rows = [
                    {"iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3], **row}
                    for row in to_coco(found, image_id=folder.number, category_ids=range(1, len(names) + 1))
                ]
                record = {"size": list(found.size), "detections": to_records(found)}
                folder.add(picture, image, annotate(image, found, known=known), found=record, rows=rows)
                everything.append(found)
    return PredictResult(
        pictures=folder.drawings, results=folder.results, coco=folder.coco, found=everything,
        summary="\n".join(filter(None, (folder.describe(), about_heads(config.checkpoint)))),
    )  # fmt: skip


def look_for(detector: NamedDetector, names: Names, examples: Examples | None, *, name: str) -> tuple[str, ...]:
    """Tells a detector what to look for, and which names that are.

    Args:
        detector: Any.
        names: As they were typed; those of training if there are no examples either.
        examples: Names by pictures of the things.
        name: What the detector is called, for the message.

    Raises:
        ValueError: It knows names alone, and there are examples.
    """
    named = parse_names(names).names if names else ()
    if examples is None:
        asked = named or tuple(detector.trained_names)
        detector.use(asked)
        return asked
    if not isinstance(detector, Detector):
        raise ValueError(f"{name} looks for names alone; examples need a detector that `detect train` wrote")
    detector.use(named, examples=examples)
    return detector.model.vocabulary.names


def annotate(image: Image.Image, found: Detections, *, known: Collection[str] | None = None) -> Image.Image:
    """Draws detections.

    Args:
        image: The original picture.
        found: Its detections.
        known: Names that training saw: these are blue and all others red, as in the paper; None gives each class a
            colour.
    """
    seen = None if known is None else set(map(spoken_name, known))
    drawn = []
    for one, label in zip(found, found.labels.tolist(), strict=True):
        colour = class_colour(label) if seen is None else (BASE if spoken_name(one.name) in seen else NOVEL)
        drawn.append(DrawnBox(box=one.box, text=f"{one.name} {one.score:.2f}", colour=colour, mask=one.mask))
    return draw_boxes(image, drawn)


def summarize(found: Sequence[Detections]) -> str:
    """How much was found of what."""
    counts: dict[str, int] = {}
    for detections in found:
        for label in detections.labels.tolist():
            counts[detections.names[label]] = counts.get(detections.names[label], 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} x {name}" for name, count in ranked[:20]) or "nothing found; try a lower --threshold"
