"""Names every pixel of pictures: `segment predict` as a function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.backbones.refinement import refinement_of
from clipself.data.images import find_pictures
from clipself.data.predictions import PredictionFolder
from clipself.engine.resolve import resolve
from clipself.segmentation.checkpoint import SEGMENTER, load_segmenter
from clipself.segmentation.config import SegmentationPredictConfig
from clipself.segmentation.results import to_coco
from clipself.segmentation.segmenter import Segmenter
from clipself.segmentation.segmenters import segmenter_of
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.structures import Segmentation
from clipself.text.names import parse_names
from clipself.viz.segments import draw_panels


def predict_segments(config: SegmentationPredictConfig | None = None, /, **options: Any) -> Path:
    """Names every pixel of pictures; a picture that cannot be read is told and left out.

    Writes `pictures/` (overlays with a legend), `maps/` (index PNGs), `results.json` and `coco.json` (a run-length mask
    for each class of each picture).

    Args:
        config: All settings, also as a table or a file; or give them as keywords.
        options: Fields of `SegmentationPredictConfig`.

    Returns:
        `results.json`: for each picture its classes with their share of the pixels; what was listed, read, left out.

    Raises:
        ValueError: There are no names, no picture can be read, or a model does not fit.
        FileNotFoundError: A file is missing.
    """
    config = resolve(SegmentationPredictConfig, None, config, **options)
    listed, segmenter = find_pictures(config.images), open_segmenter(config)
    with PredictionFolder(config.out, listed, segmenter.names) as folder:
        for picture, image in folder.read():
            with folder.attempt(picture):
                found = segmenter.segment(image)
                panel = draw_panels(
                    image, {"segments": found.labels_HW}, found.names, height=min(480, max(120, image.height))
                )
                folder.add(
                    picture, image, panel, found={"classes": shares(found)},
                    rows=to_coco(found, image_id=folder.number), labels_HW=found.labels_HW.numpy(),
                )  # fmt: skip
    return folder.results


def shares(found: Segmentation) -> list[dict[str, Any]]:
    """The classes that occur, each with its part of the pixels, the largest first."""
    return [
        {"name": found.names[index], "index": index, "share": round(found.share(index), 5)} for index in found.classes
    ]


def open_segmenter(config: SegmentationPredictConfig) -> Segmenter:
    """The trained segmenter of a folder, or a CLIP that is read without training.

    Raises:
        ValueError: There are no names.
        FileNotFoundError: The folder or its CLIP is missing.
    """
    device = pick_device(config.device)
    names: Sequence[str] = parse_names(config.names).names if config.names else ()
    checkpoint = config.checkpoint
    if checkpoint is None and SEGMENTER.is_in(config.model):  # how earlier versions named a trained folder
        checkpoint = Path(config.model)
    if checkpoint is not None:
        model, card = load_segmenter(checkpoint, device=device)
        return segmenter_of(model, names or card["names"], crop=card["crop"])
    if not names:
        raise ValueError(f"{config.model} was never trained on names; pass some: --names cat dog grass")
    clip = load_clip(config.model, config.pretrained, text_from=config.text_from, device=device)
    readout = config.readout or refinement_of(config.model).readout or "value"
    return TrainingFree(clip, names, TrainingFreeSettings(readout=readout, templates=config.templates))
