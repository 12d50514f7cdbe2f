"""Truth and results under ids of our own, 1 ... n, for tools that have rules about the ids of a file.

pycocotools takes annotation 0 for "no match", keeps one of two rows that share an id, and compares ids of images and
classes by value; so none of a file's own ids reach it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clipself.choices import pick
from clipself.metrics.scored_rows import (
    PARTS,
    check_results,
    check_truth,
    encode_part,
    given_area,
    given_crowd,
    look_at_results,
    plain_id,
    refuse_image,
    tell_truth,
    true_box,
)
from clipself.ops.run_lengths import shorten

log = logging.getLogger(__name__)

Id = int | str
"""What a file counts its images and classes by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Renumbered:
    """What an evaluator is given.

    Attributes:
        truth: COCO's "images", "annotations" and "categories".
        results: COCO results.
        categories: The file's own id of class 1, 2, ...
    """

    truth: dict[str, Any]
    results: list[dict[str, Any]]
    categories: tuple[Any, ...]


def renumber(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, iou_type: str = "bbox", told: bool = False,
    checked: bool = False,
) -> Renumbered:  # fmt: skip
    """Numbers images, classes and rows anew, in the order in which the official tool goes through them.

    What may not be meant is logged: rows and results that are there twice, results of other classes, boxes that look
    like corners, areas that no mask in its box has.

    Args:
        truth: A COCO instances file, read; `id`, `iscrowd` and `area` of its rows may be absent. An area that is not
            given is that of the box, or of the mask where masks are compared.
        results: Rows of `image_id`, `category_id`, `bbox` or `segmentation`, and `score`.
        iou_type: "bbox" or "segm"; the areas of masks are their own, whether there are boxes beside them or not.
        told: Whether what is odd of the truth was told where its file was read.
        checked: Whether `check_truth` and `check_results` have let both through.

    Raises:
        ValueError: A row names an image or class that the truth does not list, or cannot be scored.
    """
    part = pick(PARTS, iou_type, what="iou_type")
    if not checked:
        check_truth(truth)
        results = check_results(results, part)
    images = {plain_id(image["id"]): image for image in reversed(truth["images"])}
    classes = _in_order({plain_id(row["id"]): row for row in reversed(truth["categories"])})
    image_of = {identity: number for number, identity in enumerate(_in_order(images), start=1)}
    class_of = {identity: number for number, identity in enumerate(classes, start=1)}
    annotations: list[dict[str, Any]] = []
    for place, row in enumerate(truth["annotations"]):
        own = _true_row(row, place, image_of, class_of, images, part)
        if own is not None:  # rows of other images are passed over, as the official tool does
            annotations.append({**own, "id": len(annotations) + 1, "row": place})
    if not told:
        tell_truth(annotations)
    numbered = {number: images[identity] for identity, number in image_of.items()}
    found = _results(results, image_of, class_of)
    if part == "segmentation":
        for place, row in enumerate(found):
            row[part] = encode_part(row[part], numbered[row["image_id"]], f"results[{place}]")
    look_at_results(found, numbered)
    return Renumbered(
        truth={
            "info": {},
            "images": [{**image, "id": number} for number, image in numbered.items()],
            "annotations": annotations,
            "categories": [{"id": number, "name": str(identity)} for identity, number in class_of.items()],
        },
        results=found,
        categories=tuple(classes),
    )


def _true_row(
    row: Any, place: int, image_of: Mapping[Any, int], class_of: Mapping[Any, int], images: Mapping[Any, Any], part: str
) -> dict[str, Any] | None:
    if not isinstance(row, Mapping) or row.get("image_id") is None:
        raise ValueError(f'annotations[{place}] is {shorten(row, most=80)} without an "image_id"')
    identity = plain_id(row["image_id"])
    if identity not in image_of:
        return None
    category = class_of.get(plain_id(row.get("category_id", "")))
    if category is None:
        raise ValueError(f"annotations[{place}] is of class {row.get('category_id')!r}, which the file does not list")
    area = given_area(row, place)
    own: dict[str, Any] = {"image_id": image_of[identity], "category_id": category, "iscrowd": given_crowd(row, place)}
    if part == "segmentation":
        from pycocotools import mask as coco_mask

        own[part] = encode_part(row.get(part), images[identity], f"annotations[{place}]")
        area = float(coco_mask.area(own[part])) if area is None else area
        boxes = {} if row.get("bbox") is None else {"bbox": true_box(row, place)}
    else:
        if area is None and "bbox" not in row:
            raise ValueError(f'annotations[{place}] has neither "area" nor "bbox"; it cannot be scored')
        boxes = {"bbox": true_box(row, place)}
        area = boxes["bbox"][2] * boxes["bbox"][3] if area is None else area
    return {**own, **boxes, "area": area}


def _results(
    results: Sequence[Mapping[str, Any]], image_of: Mapping[Any, int], class_of: Mapping[Any, int]
) -> list[dict[str, Any]]:
    found, others = [], list[Any]()
    for row in results:
        image, category = image_of.get(row["image_id"]), class_of.get(row["category_id"])
        if image is None:
            refuse_image(row)
        if category is None:  # other names may be asked for besides; they count for nothing
            others.append(row["category_id"])
            continue
        found.append({**row, "image_id": image, "category_id": category})
    if others:
        log.warning("%s of the %d results is of a class that the annotations list (there are %s), such as %r: are "
                    "classes counted from another number?" if not found else
                    "%s of the %d results are of classes that the annotations do not list (there are %s), such as %r, "
                    "and count for nothing: are classes counted from another number?", len(others) if found else "none",
                    len(results), shorten([*class_of]), others[0])  # fmt: skip
    return found


def _in_order(rows: Mapping[Any, Any]) -> list[Any]:
    """As pycocotools sorts ids; ids that do not sort keep the file's order, which the mapping has backwards."""
    ids = list(rows)[::-1]
    return sorted(ids) if len({type(identity) for identity in ids}) == 1 else ids
