"""Panoptic results in the forms that other tools read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipself.ops.boxes import xyxy_to_xywh
from clipself.ops.run_lengths import encode_mask
from clipself.panoptic.to_maps import Instances, boxes_around
from clipself.structures import Detections, Panoptic


def to_coco(found: Instances, *, image_id: Any, category_ids: Sequence[Any] | None = None) -> list[dict[str, Any]]:
    """Scored things as rows of COCO's results.

    Args:
        found: Of one picture.
        image_id: The data set's own id of the picture.
        category_ids: The data set's own id of each name; from 1 on if not given.
    """
    boxes = xyxy_to_xywh(found.boxes).tolist()
    labels, scores = found.labels_N.tolist(), found.scores_N.tolist()
    return [
        {
            "image_id": image_id,
            "category_id": label + 1 if category_ids is None else category_ids[label],
            "score": round(score, 5),
            "bbox": box,
            "segmentation": encode_mask(mask.cpu().numpy()),
        }
        for mask, label, score, box in zip(found.masks(), labels, scores, boxes, strict=True)
    ]


def to_detections(found: Instances, names: Sequence[str]) -> Detections:
    """Scored things as detections, which have converters of their own.

    Args:
        found: Of one picture.
        names: The classes that were asked for.
    """
    return Detections(
        boxes=found.boxes.cpu(), scores=found.scores_N.float().cpu(), labels=found.labels_N.cpu(), names=tuple(names),
        size=found.size, masks=tuple(encode_mask(mask.cpu().numpy()) for mask in found.masks()),
    )  # fmt: skip


def to_transformers(found: Panoptic) -> dict[str, Any]:
    """What `post_process_panoptic_segmentation` of transformers returns for one picture; 0 is void there too."""
    infos = [
        {"id": one.id, "label_id": one.label, "was_fused": not one.is_thing, "score": one.score}
        for one in found.segments
    ]
    return {"segmentation": found.ids_HW.cpu(), "segments_info": infos}


def to_pipeline(found: Panoptic) -> list[dict[str, Any]]:
    """What transformers' image segmentation pipeline returns: a grey mask, a label and a score for each segment."""
    return [
        {
            "score": one.score,
            "label": found.names[one.label],
            "mask": Image.fromarray(255 * found.mask(one).cpu().numpy().astype(np.uint8)),
        }
        for one in found.segments
    ]


def to_supervision(found: Panoptic) -> Any:
    """`supervision.Detections` with a mask for each segment; names and kinds under `data`.

    Raises:
        ImportError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError("supervision is not installed; pip install 'clipself[supervision]'") from error
    masks = _masks(found)
    labels = [one.label for one in found.segments]
    return supervision.Detections(
        xyxy=boxes_around(masks).cpu().numpy().astype(np.float32),
        mask=masks.cpu().numpy(),
        confidence=np.array([one.score for one in found.segments], dtype=np.float32),
        class_id=np.array(labels, dtype=int),
        data={
            "class_name": np.array([found.names[label] for label in labels], dtype=object),
            "is_thing": np.array([one.is_thing for one in found.segments], dtype=bool),
        },
    )


def _masks(found: Panoptic) -> Tensor:
    masks = [found.mask(one) for one in found.segments]
    return torch.stack(masks) if masks else torch.zeros(0, *found.ids_HW.shape, dtype=torch.bool)
