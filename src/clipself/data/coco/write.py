"""COCO rows of what was read or found: the file's own ids come out, whatever stood for them inside."""

from collections.abc import Collection
from typing import Any

import numpy as np

from clipself.data.coco.instances import Instances
from clipself.data.coco.rows import CocoImage, Id


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
        "images": [_image_row(image) for image in table.images if image.id in images],
        "annotations": [_truth_row(table, int(row), masks=masks) for row in rows],
        "categories": [
            {"id": one.id, "name": one.name, **({"frequency": one.frequency} if one.frequency else {})}
            for one in table.categories
            if one.id in categories
        ],
    }


def _image_row(image: CocoImage) -> dict[str, Any]:
    row: dict[str, Any] = {"id": image.id, "file_name": image.file}
    if image.size is not None:
        row |= {"height": image.size[0], "width": image.size[1]}
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
