"""Which of the objects that were found become labels."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from clipself.data.labels.objects import LabelledObject
from clipself.structures import Detections
from clipself.text.templates import spoken_name


def thresholds_of(names: Sequence[str], threshold: float, others: Mapping[str, float]) -> list[float]:
    """The least score of each name.

    Raises:
        ValueError: One of the others is of no name that is looked for.
    """
    said = {spoken_name(name): value for name, value in others.items()}
    known = {spoken_name(name) for name in names}
    unknown = next((name for name in others if spoken_name(name) not in known), None)
    if unknown is not None:
        raise ValueError(f"thresholds: {unknown!r} is not looked for; the names are {', '.join(names[:10])}")
    return [said.get(spoken_name(name), threshold) for name in names]


def choose_objects(
    found: Detections, *, thresholds: Sequence[float], overlap: float, least_area: float
) -> tuple[LabelledObject, ...]:
    """The objects of a picture that are sure, large enough, and not the same as a better one; best first.

    Args:
        found: Of one picture.
        thresholds: Least score of each name.
        overlap: IoU from which two objects are the same, whatever they are called; 1 keeps all.
        least_area: Least share of the picture.
    """
    rows = []
    for place, (score, label) in enumerate(zip(found.scores.tolist(), found.labels.tolist(), strict=True)):
        if score < thresholds[label]:
            continue
        left, top, right, bottom = (round(value, 3) for value in found.boxes[place].tolist())
        mask = None if found.masks is None else found.masks[place]
        one = LabelledObject(label=label, box=(left, top, right, bottom), score=round(score, 6), mask=mask)
        if right > left and bottom > top and one.area >= max(least_area * found.size[0] * found.size[1], 1e-9):
            rows.append(one)
    rows.sort(key=lambda one: -(one.score or 0.0))
    return tuple(drop_same(rows, overlap=overlap))


def drop_same(rows: Sequence[LabelledObject], *, overlap: float) -> list[LabelledObject]:
    """Objects, best first, without those that overlap a better one that stays by this IoU."""
    if overlap >= 1 or len(rows) < 2:
        return list(rows)
    iou = _overlaps(rows)
    kept: list[int] = []
    for place in range(len(rows)):
        if not kept or iou[place, kept].max() < overlap:
            kept.append(place)
    return [rows[place] for place in kept]


def _overlaps(rows: Sequence[LabelledObject]) -> NDArray[np.float64]:
    """IoU (N, N) of masks where all have some, else of boxes."""
    masks = [one.mask for one in rows if one.mask is not None]
    if len(masks) == len(rows):
        from pycocotools import mask as coco_mask

        return np.asarray(coco_mask.iou(masks, masks, [0] * len(masks)), dtype=np.float64)
    boxes = torch.tensor([one.box for one in rows], dtype=torch.float64)
    return np.asarray(box_iou(boxes, boxes).numpy())
