"""Results in the forms of other tools: supervision, and the pipelines of transformers. COCO's: `data.coco.write`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from clipself.ops.run_lengths import fill_runs, read_run_lengths
from clipself.structures.results import Detections


def to_supervision(found: Detections, **data: Sequence[Any]) -> Any:
    """`supervision.Detections`, with masks where there are some and the names under `data["class_name"]`.

    Args:
        found: Of one picture.
        data: Further values of each, such as `is_thing`.

    Raises:
        ImportError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError("supervision is not installed; pip install 'clipself[supervision]'") from error
    masks = None
    if found.masks is not None:
        masks = np.zeros((len(found), *found.size), dtype=bool)
        for place, mask in enumerate(found.masks):
            masks[place] = fill_runs(*read_run_lengths(mask))
    return supervision.Detections(
        xyxy=found.boxes.numpy().astype(np.float32).reshape(-1, 4),
        confidence=found.scores.numpy().astype(np.float32),
        class_id=found.labels.numpy().astype(int),
        mask=masks,
        data={
            "class_name": np.array([found.names[label] for label in found.labels.tolist()], dtype=object),
            **{name: np.array(values) for name, values in data.items()},
        },
    )


def to_box_pipeline(found: Detections) -> list[dict[str, Any]]:
    """What transformers' zero-shot object detection pipeline returns: whole pixels, cut off."""
    return [
        {
            "score": score,
            "label": found.names[label],
            "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), map(int, box), strict=True)),
        }
        for score, label, box in zip(found.scores.tolist(), found.labels.tolist(), found.boxes.tolist(), strict=True)
    ]


def to_mask_pipeline(found: Detections) -> list[dict[str, Any]]:
    """What transformers' image segmentation pipeline returns: a grey mask, a label and a score of each.

    Raises:
        ValueError: There are no masks.
    """
    if found.masks is None:
        raise ValueError("these detections have no masks; use the pipeline of boxes")
    return [
        {
            "score": score,
            "label": found.names[label],
            "mask": Image.fromarray(255 * fill_runs(*read_run_lengths(mask)).astype(np.uint8)),
        }
        for score, label, mask in zip(found.scores.tolist(), found.labels.tolist(), found.masks, strict=True)
    ]
