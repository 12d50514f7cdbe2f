"""Truth and results under ids of our own, 1 ... n, for tools that have rules about the ids of a file.

pycocotools takes annotation 0 for "no match", keeps one of two rows that share an id, and compares ids of images and
classes by value; so none of a file's own ids reach it.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clipself.ops.run_lengths import LARGEST_SIDE, read_run_lengths, shorten

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


def renumber(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, iou_type: str = "bbox") -> Renumbered:
    """Numbers images, classes and rows anew, in the order in which the official tool goes through them.

    Args:
        truth: A COCO instances file, read; `id`, `iscrowd` and `area` of its rows may be absent. An area that is not
            given is that of the box, or of the mask where masks are compared.
        results: Rows of `image_id`, `category_id`, `bbox` or `segmentation`, and `score`.
        iou_type: "bbox" or "segm".

    Raises:
        ValueError: A row names an image or class that the truth does not list, or cannot be scored.
    """
    images = {image["id"]: image for image in reversed(truth["images"])}
    classes = _in_order({row["id"]: row for row in reversed(truth["categories"])})
    image_of = {identity: number for number, identity in enumerate(_in_order(images), start=1)}
    class_of = {identity: number for number, identity in enumerate(classes, start=1)}
    annotations: list[dict[str, Any]] = []
    for place, row in enumerate(truth["annotations"]):
        image, category = image_of.get(row["image_id"]), class_of.get(row["category_id"])
        if image is None:
            continue  # as the official tool does
        if category is None:
            raise ValueError(f"annotations[{place}] is of class {row['category_id']!r}, which the file does not list")
        area = row.get("area")
        annotations.append(
            {
                **row, "id": len(annotations) + 1, "image_id": image, "category_id": category,
                "iscrowd": int(row.get("iscrowd") or 0),
                "area": _area(row, place, iou_type, images[row["image_id"]]) if area is None else area,
            }
        )  # fmt: skip
    return Renumbered(
        truth={
            "info": {},
            "images": [{**images[identity], "id": number} for identity, number in image_of.items()],
            "annotations": annotations,
            "categories": [{"id": number, "name": str(identity)} for identity, number in class_of.items()],
        },
        results=_results(results, image_of, class_of, "bbox" if iou_type == "bbox" else "segmentation"),
        categories=tuple(classes),
    )


def _results(
    results: Sequence[Mapping[str, Any]], image_of: Mapping[Any, int], class_of: Mapping[Any, int], part: str
) -> list[dict[str, Any]]:
    if isinstance(results, Mapping | str) or not isinstance(results, Iterable):
        raise ValueError(f"results are {shorten(results)}, expected a list of {_row_of(part)}")
    found, others = [], list[Any]()
    for place, row in enumerate(results):
        if not isinstance(row, Mapping) or any(
            row.get(key) is None for key in ("image_id", "category_id", part, "score")
        ):
            raise ValueError(f"results[{place}] is {shorten(row, most=80)}, expected {_row_of(part)}")
        image, category = image_of.get(row["image_id"]), class_of.get(row["category_id"])
        if image is None:
            raise ValueError(
                f"a result is for image {row['image_id']!r}, which the annotations do not list; were they made for "
                "others?"
            )
        if not math.isfinite(row["score"]):
            raise ValueError(f"results[{place}] has the score {row['score']}, which cannot be ranked")
        if category is None:  # other names may be asked for besides; they count for nothing
            others.append(row["category_id"])
            continue
        own = {"image_id": image, "category_id": category, "score": float(row["score"])}
        if part == "bbox":
            own["bbox"] = _box(row["bbox"], place)  # type: ignore[assignment]
        found.append({**row, **own})
    if others and not found:
        log.warning("none of the %d results is of a class that the annotations list (there are %s), such as %r: are "
                    "classes counted from another number?", len(others), shorten([*class_of]), others[0])  # fmt: skip
    return found


def _row_of(part: str) -> str:
    return f'{{"image_id", "category_id", "{part}", "score"}}'


def _box(box: Any, place: int) -> list[float]:
    """Four plain numbers, also of an array or tensor, which pycocotools does not take."""
    values = [float(value) for value in box]
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise ValueError(f"results[{place}] has the box {shorten(values)}, expected x, y, width and height")
    return values


def _in_order(rows: Mapping[Any, Any]) -> list[Any]:
    """As pycocotools sorts ids; ids that do not sort keep the file's order, which the mapping has backwards."""
    ids = list(rows)[::-1]
    return sorted(ids) if len({type(identity) for identity in ids}) == 1 else ids


def _area(row: Mapping[str, Any], place: int, iou_type: str, image: Mapping[str, Any]) -> float:
    segmentation = row.get("segmentation")
    if iou_type == "segm" and segmentation:
        return _area_of_mask(segmentation, place, image)
    if "bbox" not in row:
        raise ValueError(f'annotations[{place}] has neither "area" nor "bbox"; it cannot be scored')
    return float(row["bbox"][2] * row["bbox"][3])


def _area_of_mask(segmentation: Any, place: int, image: Mapping[str, Any]) -> float:
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, Mapping):
        lengths, _ = read_run_lengths(segmentation)
        return float(lengths[1::2].sum())
    size = image.get("height"), image.get("width")
    if not all(isinstance(side, int) and 0 < side <= LARGEST_SIDE for side in size):
        raise ValueError(f"annotations[{place}]: its image has the size {shorten(size)}; masks need it")
    return float(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))))
