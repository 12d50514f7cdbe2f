"""Segmentations in the forms that other tools read."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from clipself.metrics.mask_ap import encode_mask
from clipself.structures import Segmentation


def to_coco(found: Segmentation, *, image_id: Any, category_ids: Sequence[Any] | None = None) -> list[dict[str, Any]]:
    """Rows of COCO's stuff results: a run-length mask for each class that occurs, those of most pixels first.

    Args:
        found: Of one picture.
        image_id: The data set's own id of the picture.
        category_ids: The data set's own id of each name; from 1 on if not given.
    """
    return [
        {
            "image_id": image_id,
            "category_id": index + 1 if category_ids is None else category_ids[index],
            "score": round(found.score(index), 5),
            "segmentation": encode_mask(found.mask(index).numpy()),
        }
        for index in found.classes
    ]


def to_pipeline(found: Segmentation) -> list[dict[str, Any]]:
    """What transformers' image segmentation pipeline returns: a grey mask and a score for each class that occurs."""
    from PIL import Image

    return [
        {
            "score": found.score(index),
            "label": found.names[index],
            "mask": Image.fromarray(255 * found.mask(index).numpy().astype(np.uint8)),
        }
        for index in found.classes
    ]


def to_supervision(found: Segmentation) -> Any:
    """`supervision.Detections` with a mask for each class that occurs, the names under `data["class_name"]`.

    Raises:
        ImportError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError("supervision is not installed; pip install 'clipself[supervision]'") from error
    masks = np.stack([found.mask(index).numpy() for index in found.classes])
    return supervision.Detections(
        xyxy=supervision.mask_to_xyxy(masks).astype(np.float32),
        mask=masks,
        confidence=np.array([found.score(index) for index in found.classes], dtype=np.float32),
        class_id=np.array(found.classes, dtype=int),
        data={"class_name": np.array([found.names[index] for index in found.classes], dtype=object)},
    )
