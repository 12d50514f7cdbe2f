"""Detectors, segmenters and mask generators as one thing: a picture in, objects with names out."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from clipself.backbones.devices import pick_device
from clipself.backbones.packaged_heads import heads_folder
from clipself.choices import pick
from clipself.data.examples import examples_of
from clipself.detection.checkpoint import DETECTOR
from clipself.detection.detector import open_detector
from clipself.detection.predict import look_for
from clipself.panoptic.generators.own import MASK_MODEL
from clipself.panoptic.generators.table import generator_of
from clipself.panoptic.judge import open_judge
from clipself.panoptic.results import to_detections
from clipself.panoptic.segmenter import PanopticSegmenter
from clipself.segmentation.checkpoint import SEGMENTER
from clipself.segmentation.predict import open_segmenter
from clipself.segmentation.streamed_argmax import streamed_argmax
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.structures import Detections, Segmentation
from clipself.text.names import parse_names
from clipself.workflows.labelling.config import LabelConfig

PACKAGED: Final = "clipself-mini-detector"
"""What looks where nothing is told."""


class Labeller(Protocol):
    """Finds named objects in pictures.

    Attributes:
        names: What it looks for.
    """

    names: tuple[str, ...]

    def __call__(self, image: Image.Image, file: Path, *, least: float) -> Detections:
        """The objects of an RGB picture that score at least `least`."""


class DetectorLabeller:
    """A detector of ours or of transformers."""

    def __init__(self, config: LabelConfig) -> None:
        self.detector = open_detector(config.checkpoint or PACKAGED, device=config.device)
        examples = examples_of(config.examples, config.example_images)
        self.names = look_for(self.detector, config.names, examples, name=config.checkpoint or PACKAGED)

    def __call__(self, image: Image.Image, file: Path, *, least: float) -> Detections:
        """The detections of a picture."""
        (found,) = self.detector.stream([image], threshold=least)
        return found


class SegmenterLabeller:
    """A segmenter; each connected part of a class is an object, with the mean score of its pixels."""

    def __init__(self, config: LabelConfig) -> None:
        self.segmenter = open_segmenter(
            config.checkpoint, model=config.model, pretrained=config.pretrained, names=config.names,
            examples=examples_of(config.examples, config.example_images), device=config.device,
        )  # fmt: skip
        self.names = tuple(self.segmenter.names)
        self.least_area = config.least_area

    def __call__(self, image: Image.Image, file: Path, *, least: float) -> Detections:
        """The parts of a picture's classes."""
        return split_parts(self._segment(image), least_area=self.least_area).above(least)

    def _segment(self, image: Image.Image) -> Segmentation:
        """A class for every pixel, with scores in [0, 1]: those of a CLIP that never learned to segment are logits."""
        if not isinstance(self.segmenter, TrainingFree):
            return self.segmenter.segment(image)
        found = streamed_argmax(self.segmenter.score(image), softmax=True, class_of=self.segmenter.class_of)
        return Segmentation(labels_HW=found.labels_HW.cpu(), scores_HW=found.scores_HW.cpu(), names=self.names)


class PanopticLabeller:
    """Masks of a generator, or stored ones, named by a CLIP; the segments of the panoptic map are the objects."""

    def __init__(self, config: LabelConfig) -> None:
        examples, device = examples_of(config.examples, config.example_images), pick_device(config.device)
        generator = generator_of(config.checkpoint, config.masks, device=device)
        judge = open_judge(config.model, config.pretrained, device=device)
        scores = "both" if generator.trained_names and not examples else "clip"
        self.segmenter = PanopticSegmenter(generator, judge, scores=scores)
        typed = config.names or config.stuff or not examples
        names = parse_names(config.names, stuff=config.stuff) if typed else ()
        self.segmenter.use(names, examples=examples)
        self.names = tuple(self.segmenter.names)

    def __call__(self, image: Image.Image, file: Path, *, least: float) -> Detections:
        """The segments of a picture."""
        return to_detections(self.segmenter(image, file=str(file)).panoptic).above(least)


LABELLERS: Final[Mapping[str, Callable[[LabelConfig], Labeller]]] = {
    "detect": DetectorLabeller,
    "segment": SegmenterLabeller,
    "panoptic": PanopticLabeller,
}
"""Task -> what does it."""


def open_labeller(config: LabelConfig) -> Labeller:
    """What the settings name.

    Raises:
        ValueError: The checkpoint is of no known kind, there are no names, or something does not fit.
        FileNotFoundError: It is not there.
    """
    task = config.task if config.task != "auto" else task_of(config)
    return pick(LABELLERS, task, what="task")(config)


def task_of(config: LabelConfig) -> str:
    """What the settings ask for; errors as of `task_of_checkpoint`."""
    if config.masks is not None:
        return "panoptic"
    return "detect" if config.checkpoint is None else task_of_checkpoint(config.checkpoint)


def task_of_checkpoint(checkpoint: str) -> str:
    """What a checkpoint is for, told by what lies in its folder, or by the kind of a model of transformers.

    Raises:
        ValueError: It does not tell.
        FileNotFoundError: There is no such folder.
    """
    kind, _, name = checkpoint.partition(":")
    if name and kind in ("hf", "owlvit"):
        return _task_of_transformers(name)
    folder = heads_folder(checkpoint)
    for heads, task in ((DETECTOR, "detect"), (SEGMENTER, "segment"), (MASK_MODEL, "panoptic")):
        if heads.is_in(folder):
            return task
    if not folder.exists():
        raise FileNotFoundError(f"no checkpoint at {folder}; pass a folder that a `train` command wrote, or 'hf:NAME'")
    raise ValueError(f"{folder} holds no detector, segmenter or mask generator; pass a folder that a `train` wrote")


def _task_of_transformers(name: str) -> str:
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise ImportError(f"hf:{name} needs transformers; pip install 'clipself[transformers]'") from error
    try:
        kind = str(AutoConfig.from_pretrained(name).model_type)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"transformers finds no model at {name!r} ({error}); pass a folder or a hub name that is reachable"
        ) from error
    return "panoptic" if "former" in kind else "detect"


def split_parts(found: Segmentation, *, least_area: float) -> Detections:
    """The connected parts of each class as detections, best first.

    Args:
        found: A class for every pixel.
        least_area: Parts that cover a smaller share of the picture are left out.
    """
    labels_HW = found.labels_HW.cpu().numpy()
    scores_HW = None if found.scores_HW is None else found.scores_HW.float().cpu().numpy()
    rows: list[tuple[float, int, NDArray[np.bool_]]] = []
    for index in found.classes:
        parts_HW, count = ndimage.label(labels_HW == index)
        sizes = np.bincount(parts_HW.ravel(), minlength=count + 1)
        for part in range(1, count + 1):
            if sizes[part] >= least_area * labels_HW.size:
                mask = parts_HW == part
                rows.append((1.0 if scores_HW is None else float(scores_HW[mask].mean()), index, mask))
    rows.sort(key=lambda row: -row[0])
    return Detections.from_masks(
        _tensors(rows), labels=[row[1] for row in rows], scores=[row[0] for row in rows], names=found.names,
        size=(labels_HW.shape[0], labels_HW.shape[1]),
    )  # fmt: skip


def _tensors(rows: list[Any]) -> Iterator[torch.Tensor]:
    return (torch.from_numpy(mask) for _, _, mask in rows)
