"""Which classes a picture is learned from: those that are there, as many as fit."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clipself.engine.step import generator_of
from clipself.structures import DetectionBatch


def present_classes(boxes: Tensor, labels: Tensor, *, name: str, most: int) -> list[int]:
    """The classes of one picture, shuffled, the first `most` of them.

    Which ones these are follows from the picture and its boxes as they lie on the canvas, so that the number of boxes
    that a step learns from is known ahead of it.
    """
    classes = sorted(set(labels.tolist()))
    if len(classes) <= most:
        return classes
    view = [round(value, 2) for value in boxes.flatten().tolist()]
    return shuffled(classes, generator_of("classes", name, *view))[:most]


def shuffled(classes: Sequence[int], generator: torch.Generator) -> list[int]:
    """The same classes in another order."""
    return [classes[place] for place in torch.randperm(len(classes), generator=generator).tolist()]


def count_boxes(batch: DetectionBatch, *, classes: int, most: int | None) -> Tensor:
    """Boxes of each class (K,).

    Args:
        batch: On any device.
        classes: How many there are.
        most: Classes of an image that are learned from; None for all.
    """
    counts_K = torch.zeros(classes)
    for boxes, labels, name in zip(batch.boxes, batch.labels, batch.names, strict=True):
        kept = labels
        if most is not None:
            kept = labels[torch.isin(labels, labels.new_tensor(present_classes(boxes, labels, name=name, most=most)))]
        counts_K += torch.bincount(kept.cpu(), minlength=classes)
    return counts_K
