"""COCO rows of what was read or found: the file's own ids come out, whatever stood for them inside."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from clipself.data.coco.instances import Instances
from clipself.data.coco.rows import CocoImage, Id
from clipself.ops.boxes import xyxy_to_xywh
from clipself.ops.masks import boxes_around
from clipself.structures import Detections, Panoptic


def truth_rows(
    table: Instances, *, image_ids: Collection[Id], category_ids: Collection[Id], masks: bool = False
) -> dict[str, Any]:
    """An instances file as evaluators take it, cut to some images and classes; crowds stay, they excuse detections.

    Boxes without width or height stay too, as in the official tools: nothing can find them.

    Args:
        table: What was read.
        image_ids: Images that are scored.
        category_ids: Classes that are scored.
        masks: Whether rows carry their masks; where one has none, none does.
    """
    images, categories = set(image_ids), set(category_ids)
    seen = np.asarray([image.id in images for image in table.images], dtype=bool)
    looked = np.asarray([one.id in categories for one in table.categories], dtype=bool)
    rows = np.flatnonzero(seen[table.image_N] & looked[table.category_N]) if len(table) else np.zeros(0, dtype=np.int64)
    masks = masks and table.segments is not None and bool(table.segments.has_mask_N[rows].all())
    return {
        "images": [_listed_row(image) for image in table.images if image.id in images],
        "annotations": [_truth_row(table, int(row), masks=masks) for row in rows],
        "categories": [
            {"id": one.id, "name": one.name, **({"frequency": one.frequency} if one.frequency else {})}
            for one in table.categories
            if one.id in categories
        ],
    }


def image_row(identity: Id, file: str, size: tuple[int, int] | None) -> dict[str, Any]:
    """One picture of "images"; `size` is height and width, where they are known."""
    row: dict[str, Any] = {"id": identity, "file_name": file}
    return row if size is None else {**row, "height": size[0], "width": size[1]}


def category_rows(
    names: Sequence[str], *, ids: Sequence[Id] | None = None, is_thing: Sequence[bool] | None = None
) -> list[dict[str, Any]]:
    """Rows of "categories": ids from 1 on where none are given, and what panoptic files say of things."""
    rows: list[dict[str, Any]] = [
        {"id": identity, "name": name} for identity, name in zip(ids or range(1, len(names) + 1), names, strict=True)
    ]
    if is_thing is None:
        return rows
    return [{**row, "isthing": int(thing)} for row, thing in zip(rows, is_thing, strict=True)]


def result_rows(
    found: Detections, *, image_id: Id, category_ids: Sequence[Id] | None = None, boxes: bool = True
) -> list[dict[str, Any]]:
    """Rows of a COCO results file.

    Args:
        found: Of one picture.
        image_id: The data set's own id of the picture.
        category_ids: The data set's own id of each name; from 1 on if not given.
        boxes: Whether rows hold boxes; those of stuff do not.
    """
    rows: list[dict[str, Any]] = []
    for place, (box, score, label) in enumerate(
        zip(xyxy_to_xywh(found.boxes).tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    ):
        row = {"image_id": image_id, "category_id": label + 1 if category_ids is None else category_ids[label]}
        if boxes:
            row["bbox"] = [round(value, 3) for value in box]
        row["score"] = round(score, 6)
        if found.masks is not None:
            row["segmentation"] = found.masks[place]
        rows.append(row)
    return rows


def segment_rows(found: Panoptic, *, categories: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The "segments_info" of one picture's map.

    Args:
        found: The map.
        categories: Of `category_rows`, one a label.
    """
    return [
        {
            "id": one.id,
            "category_id": categories[one.label]["id"],
            "isthing": categories[one.label]["isthing"],
            **_extent(found.mask(one)),
            "iscrowd": 0,
            "score": round(one.score, 6),
        }
        for one in found.segments
    ]


def _extent(mask_HW: Tensor) -> dict[str, Any]:
    box = xyxy_to_xywh(boxes_around(mask_HW[None]))[0].tolist()
    return {"area": int(mask_HW.sum()), "bbox": [int(side) for side in box]}


def _listed_row(image: CocoImage) -> dict[str, Any]:
    row = image_row(image.id, image.file, image.size)
    if image.negative is not None:
        row["neg_category_ids"] = list(image.negative)
    if image.partial is not None:
        row["not_exhaustive_category_ids"] = list(image.partial)
    return row


def _truth_row(table: Instances, row: int, *, masks: bool) -> dict[str, Any]:
    image = table.images[int(table.image_N[row])]
    held: dict[str, Any] = {
        "image_id": image.id,
        "category_id": table.categories[int(table.category_N[row])].id,
        "bbox": table.boxes_N4[row].tolist(),
        "iscrowd": int(table.crowd_N[row]),
    }
    if table.area_N[row] == table.area_N[row]:
        held["area"] = float(table.area_N[row])
    if masks:
        assert table.segments is not None
        if image.size is None:
            raise ValueError(f"{table.place(row)}: its picture {image.file} has no size in the file; masks need it")
        held["segmentation"] = table.segments.encode(row, image.size)
    return held
