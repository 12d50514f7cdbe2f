"""Panoptic results in the forms that other tools read."""

from collections.abc import Sequence
from typing import Any

from clipself.data.coco.rows import Id
from clipself.data.coco.write import result_rows
from clipself.panoptic.to_maps import Instances
from clipself.structures import Detections, Panoptic, other_tools


def to_detections(found: Instances | Panoptic, names: Sequence[str] = ()) -> Detections:
    """Scored things, or the segments of a map, as detections, which have converters of their own.

    Args:
        found: Of one picture.
        names: The classes that were asked for; a map knows its own.
    """
    if isinstance(found, Panoptic):
        labels, scores = [one.label for one in found.segments], [one.score for one in found.segments]
        size, names = (found.ids_HW.shape[0], found.ids_HW.shape[1]), names or found.names
        return Detections.from_masks(
            map(found.mask, found.segments), labels=labels, scores=scores, names=names, size=size
        )
    labels, scores = found.labels_N.tolist(), found.scores_N.tolist()
    return Detections.from_masks(found.masks(), labels=labels, scores=scores, names=names, size=found.size)


def to_coco(found: Instances, *, image_id: Id, category_ids: Sequence[Id] | None = None) -> list[dict[str, Any]]:
    """Scored things as rows of COCO's results; see `data.coco.write.result_rows`."""
    return result_rows(to_detections(found), image_id=image_id, category_ids=category_ids)


def to_transformers(found: Panoptic) -> dict[str, Any]:
    """What `post_process_panoptic_segmentation` of transformers returns for one picture; 0 is void there too."""
    infos = [
        {"id": one.id, "label_id": one.label, "was_fused": not one.is_thing, "score": one.score}
        for one in found.segments
    ]
    return {"segmentation": found.ids_HW.cpu(), "segments_info": infos}


def to_pipeline(found: Panoptic) -> list[dict[str, Any]]:
    """What transformers' image segmentation pipeline returns for the segments."""
    return other_tools.to_mask_pipeline(to_detections(found))


def to_supervision(found: Panoptic) -> Any:
    """`supervision.Detections` with a mask for each segment; names and kinds under `data`."""
    kinds = [one.is_thing for one in found.segments]
    return other_tools.to_supervision(to_detections(found), is_thing=kinds)
