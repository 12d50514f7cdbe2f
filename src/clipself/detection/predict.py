"""Pictures in, annotated pictures and COCO results out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from clipself.data.images import read_image
from clipself.data.sources import ImageFolder
from clipself.detection.config import DetectionPredictConfig
from clipself.detection.detector import Detector
from clipself.detection.evaluate import open_detector
from clipself.detection.results import to_coco
from clipself.files import write_text
from clipself.structures import Detections
from clipself.text.templates import spoken_name
from clipself.viz.boxes import BASE, NOVEL, DrawnBox, draw_boxes
from clipself.viz.colours import class_colour


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictResult:
    """What was written.

    Attributes:
        pictures: Annotated pictures, one an image.
        results: COCO file: images, categories, and the detections as annotations with scores.
        found: Detections of each image.
    """

    pictures: tuple[Path, ...]
    results: Path
    found: tuple[Detections, ...]


def predict_images(config: DetectionPredictConfig | None = None, /, **options: Any) -> PredictResult:
    """Finds named things in images and draws them.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `DetectionPredictConfig`.

    Raises:
        ValueError: Names are missing or doubled, or an image is damaged.
        FileNotFoundError: An image or the detector is missing.
    """
    config = config if config is not None else DetectionPredictConfig(**options)
    paths = [path for given in config.images for path in (ImageFolder(given).paths if given.is_dir() else [given])]
    detector = open_detector(config.detector, device=config.device)
    known = set(map(spoken_name, detector.trained_names)) if isinstance(detector, Detector) else set()
    names = list(config.names) or (detector.trained_names if isinstance(detector, Detector) else [])
    pictures, everything, rows, images = [], [], [], []
    stream = detector.stream(paths, names, threshold=config.threshold)
    for number, (path, found) in enumerate(zip(paths, tqdm(stream, total=len(paths)), strict=True), start=1):
        picture = annotate(read_image(path), found, known=known if config.colours == "novel" else None)
        target = config.out / f"{number:04d}_{path.stem}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.save(target, quality=92)
        pictures.append(target)
        everything.append(found)
        images.append({"id": number, "file_name": str(path), "height": found.size[0], "width": found.size[1]})
        rows += to_coco(found, image_id=number, category_ids=range(1, len(names) + 1))
    categories = [{"id": place, "name": name} for place, name in enumerate(names, start=1)]
    annotations = [
        {"id": place, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3], **row}
        for place, row in enumerate(rows, start=1)
    ]
    held = {"images": images, "annotations": annotations, "categories": categories}
    results = write_text(config.out / "detections.json", json.dumps(held))
    write_text(config.out / "results.json", json.dumps(rows))
    return PredictResult(pictures=tuple(pictures), results=results, found=tuple(everything))


def annotate(image: Image.Image, found: Detections, *, known: set[str] | None) -> Image.Image:
    """Draws detections.

    Args:
        image: The original picture.
        found: Its detections.
        known: Names that training saw, as they are spoken: these are blue and all others red, as in the paper; None
            gives each class a colour.
    """
    drawn = []
    for place, (box, score, label) in enumerate(
        zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    ):
        name = found.names[label]
        colour = class_colour(label) if known is None else (BASE if spoken_name(name) in known else NOVEL)
        mask = None if found.masks is None else found.masks[place]
        drawn.append(DrawnBox(box=tuple(box), text=f"{name} {score:.2f}", colour=colour, mask=mask))
    return draw_boxes(image, drawn)


def summarize(found: Sequence[Detections]) -> str:
    """How much was found of what."""
    counts: dict[str, int] = {}
    for detections in found:
        for label in detections.labels.tolist():
            counts[detections.names[label]] = counts.get(detections.names[label], 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} x {name}" for name, count in ranked[:20]) or "nothing found; try a lower --threshold"
