"""Detections in the forms that other tools read."""

from collections.abc import Sequence
from typing import Any

from clipself.ops.boxes import xyxy_to_xywh
from clipself.structures import Detections


def to_coco(found: Detections, *, image_id: Any, category_ids: Sequence[int | str]) -> list[dict[str, Any]]:
    """Rows of a COCO results file.

    Args:
        found: Detections of one image.
        image_id: The data set's own id of the image.
        category_ids: The data set's own id of each name.
    """
    rows: list[dict[str, Any]] = []
    boxes = xyxy_to_xywh(found.boxes).tolist()
    for place, (box, score, label) in enumerate(zip(boxes, found.scores.tolist(), found.labels.tolist(), strict=True)):
        row = {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [round(value, 3) for value in box],
            "score": round(score, 6),
        }
        if found.masks is not None:
            row["segmentation"] = found.masks[place]
        rows.append(row)
    return rows


def to_records(found: Detections) -> list[dict[str, Any]]:
    """Plain values: name, score and box (`xyxy` in pixels) of each, best first."""
    return [
        {"name": one.name, "score": round(one.score, 6), "box": [round(value, 2) for value in one.box]} for one in found
    ]


def to_pipeline(found: Detections) -> list[dict[str, Any]]:
    """What transformers' zero-shot object detection pipeline returns: whole pixels, cut off, best first."""
    return [
        {
            "score": score,
            "label": found.names[label],
            "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), map(int, box), strict=True)),
        }
        for score, label, box in zip(found.scores.tolist(), found.labels.tolist(), found.boxes.tolist(), strict=True)
    ]


def to_supervision(found: Detections) -> Any:
    """`supervision.Detections`, with the names under `data["class_name"]`.

    Raises:
        ImportError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError("supervision is not installed; pip install 'clipself[supervision]'") from error
    import numpy as np

    masks = None
    if found.masks is not None:
        from pycocotools import mask as coco_mask

        decoded = [coco_mask.decode(dict(mask)).astype(bool) for mask in found.masks]
        masks = np.stack(decoded) if decoded else np.zeros((0, *found.size), dtype=bool)
    return supervision.Detections(
        xyxy=found.boxes.numpy().astype(np.float32).reshape(-1, 4),
        confidence=found.scores.numpy().astype(np.float32),
        class_id=found.labels.numpy().astype(int),
        mask=masks,
        data={"class_name": np.array([found.names[label] for label in found.labels.tolist()], dtype=object)},
    )
