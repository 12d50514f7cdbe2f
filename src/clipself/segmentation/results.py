"""Segmentations in the forms that other tools read: a mask for each class that occurs, those of most pixels first."""

from collections.abc import Sequence
from typing import Any

from clipself.data.coco.rows import Id
from clipself.data.coco.write import result_rows
from clipself.structures import Detections, Segmentation, other_tools


def to_detections(found: Segmentation) -> Detections:
    """Each class that occurs as one detection, which has converters of its own."""
    classes = found.classes
    return Detections.from_masks(
        map(found.mask, classes), labels=classes, scores=[found.score(index) for index in classes], names=found.names,
        size=(found.labels_HW.shape[0], found.labels_HW.shape[1]),
    )  # fmt: skip


def to_coco(found: Segmentation, *, image_id: Id, category_ids: Sequence[Id] | None = None) -> list[dict[str, Any]]:
    """Rows of COCO's stuff results; see `data.coco.write.result_rows`."""
    return result_rows(to_detections(found), image_id=image_id, category_ids=category_ids, boxes=False)


def to_pipeline(found: Segmentation) -> list[dict[str, Any]]:
    """What transformers' image segmentation pipeline returns."""
    return other_tools.to_mask_pipeline(to_detections(found))


def to_supervision(found: Segmentation) -> Any:
    """`supervision.Detections`; see `structures.other_tools.to_supervision`."""
    return other_tools.to_supervision(to_detections(found))
