"""Names every pixel of pictures: `segment predict` as a function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.backbones.packaged import REFINED
from clipself.backbones.refinement import refinement_of
from clipself.data.examples import examples_of
from clipself.data.images import Examples
from clipself.data.predictions import PredictionFolder
from clipself.engine.pictures import resolve_pictures
from clipself.segmentation.checkpoint import SEGMENTER, load_segmenter
from clipself.segmentation.config import SegmentationPredictConfig
from clipself.segmentation.results import to_coco
from clipself.segmentation.segmenter import ReadingSegmenter, Segmenter
from clipself.segmentation.segmenters import segmenter_of
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.structures import Segmentation
from clipself.text.names import Names, parse_names
from clipself.viz.segments import draw_panels


def predict_segments(config: SegmentationPredictConfig | None = None, /, **options: Any) -> Path:
    """Names every pixel of pictures; a picture that cannot be read is told and left out.

    Writes `pictures/` (overlays with a legend), `maps/` (index PNGs), `results.json` and `coco.json` (a run-length mask
    for each class of each picture).

    Args:
        config: All settings, also as a table or a file; or give them as keywords.
        options: Fields of `SegmentationPredictConfig`; `images` may hold opened pictures too (PIL, arrays, tensors).

    Returns:
        `results.json`: for each picture its classes with their share of the pixels; what was listed, read, left out.

    Raises:
        ValueError: There are no names, no picture can be read, or a model does not fit.
        FileNotFoundError: A file is missing.
    """
    made, listed = resolve_pictures(SegmentationPredictConfig, config, **options)
    config = made  # of one type from here on
    segmenter = open_segmenter(
        config.checkpoint, model=config.model, pretrained=config.pretrained, text_from=config.text_from,
        names=config.names, examples=examples_of(config.examples, config.example_images), readout=config.readout,
        templates=config.templates, device=config.device,
    )  # fmt: skip
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


def open_segmenter(
    checkpoint: str | Path | None = None,
    *,
    model: str = REFINED,
    pretrained: str | None = None,
    text_from: str | None = None,
    names: Names = (),
    examples: Examples | None = None,
    readout: str | None = None,
    templates: str = "imagenet",
    device: str = "auto",
) -> Segmenter:
    """The trained segmenter of a folder; without one, a CLIP that is read without training.

    Args:
        checkpoint: Folder that `train_segmenter` has written.
        model: Without a checkpoint: open_clip name, "clipself-mini", or an export folder.
        pretrained: open_clip tag or checkpoint file for a named model.
        text_from: Release whose text tower is taken where a checkpoint has none.
        names: Classes, as `parse_names` takes them; those of training if there are no examples either.
        examples: Classes by pictures of them, or by regions of pictures, beside `names` or in place of their words.
        readout: Without a checkpoint: what the model was refined with, else "value", if not given.
        templates: Without a checkpoint: sentences around the names.
        device: cpu, cuda, mps, or auto for the best there is.

    Raises:
        ValueError: There are no names, or a model does not fit.
        FileNotFoundError: The folder or its CLIP is missing.
    """
    wanted: Sequence[str] = parse_names(names).names if names else ()
    if checkpoint is None and SEGMENTER.is_in(model):  # how earlier versions named a trained folder
        checkpoint = model
    if checkpoint is not None:
        trained, card = load_segmenter(checkpoint, device=pick_device(device))
        segmenter = segmenter_of(trained, wanted or list(examples or card["names"]), crop=card["crop"])
        return _shown(segmenter, wanted, examples)
    if not (wanted or examples):
        raise ValueError(f"{model} was never trained on names; pass some: --names cat dog grass")
    clip = load_clip(model, pretrained, text_from=text_from, device=pick_device(device))
    settings = TrainingFreeSettings(readout=readout or refinement_of(model).readout or "value", templates=templates)
    return _shown(TrainingFree(clip, wanted or list(examples or ()), settings), wanted, examples)


def _shown(segmenter: Segmenter, names: Sequence[str], examples: Examples | None) -> Segmenter:
    if not examples:
        return segmenter
    if not isinstance(segmenter, ReadingSegmenter):
        raise ValueError(f"{type(segmenter).__name__} looks for names alone; leave the examples out")
    segmenter.use(names, examples=examples)
    return segmenter
