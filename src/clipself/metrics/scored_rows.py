"""Rows of truth and of results, looked at ahead of scoring: refused where they cannot be meant, else told."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

import numpy as np

from clipself.ops.box_forms import are_shares, like_corners, odd_areas, repeated
from clipself.ops.run_lengths import LARGEST_SIDE, read_run_lengths, shorten

log = logging.getLogger(__name__)

PARTS: Final[Mapping[str, str]] = {"bbox": "bbox", "segm": "segmentation"}
"""What is compared -> the field that holds it."""


def check_truth(truth: Any) -> None:
    """Refuses what is no instances file, and rows of pictures and classes that cannot be told apart.

    Raises:
        ValueError: It lacks a list, a row lacks its id, or two rows share one and differ.
    """
    parts = ("images", "annotations", "categories")
    if not isinstance(truth, Mapping) or not all(isinstance(truth.get(part), list | tuple) for part in parts):
        lacks = [part for part in parts if not isinstance(truth.get(part), list)] if isinstance(truth, Mapping) else []
        raise ValueError(
            f"the truth is {shorten(truth)}{f' without a list of {lacks[0]!r}' if lacks else ''}, expected a COCO "
            'instances file, read: {"images", "annotations", "categories"}'
        )
    for part, called in (("images", "file_name"), ("categories", "name")):
        seen: dict[Any, Any] = {}
        for place, row in enumerate(truth[part]):
            if not isinstance(row, Mapping) or row.get("id") is None:
                raise ValueError(f"{part}[{place}] is {shorten(row)} without an id; each row needs one")
            name = row.get(called)
            if seen.setdefault(plain_id(row["id"]), name) != name:
                raise ValueError(f"{part}[{place}] {shorten(name)} has the id of {shorten(seen[row['id']])}; each "
                                 "needs its own")  # fmt: skip
    listed = {row["id"] for row in truth["categories"]}
    for place, image in enumerate(truth["images"]):
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            other = [one for one in image.get(key) or () if one not in listed]
            if other and {str(one) for one in other} & set(map(str, listed)):
                raise ValueError(f"images[{place}] has the class {shorten(other[0])} in {key}, which is of another "
                                 "type than the ids of the classes")  # fmt: skip


def check_results(results: Any, part: str) -> list[dict[str, Any]]:
    """Results as plain rows of image_id, category_id, score and the part that is compared, nothing else.

    Masks stay as they are; their boxes go, since COCO's tool would take areas from them.

    Args:
        results: Rows, of lists, arrays or tensors.
        part: "bbox" or "segmentation".

    Raises:
        ValueError: They are no list, or a row cannot be scored; it is named.
    """
    wanted = f'{{"image_id", "category_id", "{part}", "score"}}'
    if isinstance(results, Mapping | str) or not isinstance(results, Iterable):
        raise ValueError(f"results are {shorten(results)}, expected a list of {wanted}")
    found = []
    for place, row in enumerate(results):
        keys = ("image_id", "category_id", part, "score")
        if not isinstance(row, Mapping) or any(row.get(key) is None for key in keys):
            raise ValueError(f"results[{place}] is {shorten(row, most=80)}, expected {wanted}")
        score = row["score"]
        if isinstance(score, str) or not hasattr(score, "__float__"):
            raise ValueError(f"results[{place}] has the score {shorten(score)}, expected a number")
        if not math.isfinite(score := float(score)):
            raise ValueError(f"results[{place}] has the score {score}, which cannot be ranked")
        ids = {key: plain_id(row[key]) for key in keys[:2]}
        found.append({**ids, part: _box(row[part], place) if part == "bbox" else row[part], "score": score})
    return found


def refuse_image(row: Mapping[str, Any]) -> NoReturn:
    """Says that a result is for an image that the truth does not list, by raising ValueError."""
    raise ValueError(
        f"a result is for image {row['image_id']!r}, which the annotations do not list; were they made for others?"
    )


def plain_id(identity: Any) -> Any:
    """An id as Python's own number or text, also out of an array or tensor.

    Raises:
        ValueError: Rows cannot be told apart by it.
    """
    if type(identity) in (int, str):
        return identity
    value = identity.item() if callable(getattr(identity, "item", None)) else identity
    if not isinstance(value, int | float | str):
        raise ValueError(f"an id is {shorten(value)}, expected a number or text")
    return value


def _box(box: Any, place: int) -> list[float]:
    """Four plain numbers, also of an array or tensor, which pycocotools does not take."""
    if isinstance(box, str | Mapping) or not isinstance(box, Iterable):
        raise ValueError(f"results[{place}] has the box {shorten(box)}, expected x, y, width and height")
    values = [float(value) for value in box]
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise ValueError(f"results[{place}] has the box {shorten(values)}, expected x, y, width and height")
    if values[2] < 0 or values[3] < 0:
        raise ValueError(f"results[{place}] has the box {values} of negative width or height, expected x, y, width, "
                         "height")  # fmt: skip
    return values


def true_box(row: Mapping[str, Any], place: int) -> list[float]:
    """The box of a true row.

    Raises:
        ValueError: It is no four numbers.
    """
    box = row.get("bbox")
    if isinstance(box, list | tuple | np.ndarray) and len(box) == 4 and all(hasattr(v, "__float__") for v in box):
        values = [float(value) for value in box]
        if all(map(math.isfinite, values)) and min(values[2:]) >= 0:
            return values
    raise ValueError(f'annotations[{place}] has the "bbox" {shorten(box)}, expected x, y, width and height')


def given_area(row: Mapping[str, Any], place: int) -> float | None:
    """The area of a true row as written; None where it is not.

    Raises:
        ValueError: It is no number.
    """
    area = row.get("area")
    if area is None:
        return None
    if isinstance(area, str) or not hasattr(area, "__float__") or not math.isfinite(float(area)):
        raise ValueError(f'annotations[{place}] has the "area" {shorten(area)}, expected pixels')
    return float(area)


def given_crowd(row: Mapping[str, Any], place: int) -> int:
    """Whether a true row is a crowd, 0 or 1; 0 where it does not say.

    Raises:
        ValueError: It is neither.
    """
    crowd = row.get("iscrowd") or 0
    if isinstance(crowd, list | tuple | Mapping) or str(crowd) not in ("0", "1", "True", "0.0", "1.0"):
        raise ValueError(f'annotations[{place}] has the "iscrowd" {shorten(crowd)}, expected 0 or 1')
    return int(str(crowd) in ("1", "True", "1.0"))


def encode_part(segmentation: Any, image: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Run lengths or polygons as compressed run lengths of the picture's size, as COCO's tool compares them.

    Args:
        segmentation: {"size", "counts"} in any form of COCO's, or polygons.
        image: Row of the picture; its `height` and `width` must be there for polygons.
        where: Names the row in messages.

    Raises:
        ValueError: It is neither, or belongs to a picture of another size.
    """
    from pycocotools import mask as coco_mask

    size = _size_of(image)
    if isinstance(segmentation, Mapping):
        try:
            lengths, own = read_run_lengths(segmentation)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if size is not None and own != size:
            raise ValueError(f"{where} has a mask of {own[0]} x {own[1]} pixels (height x width), its picture is "
                             f"{size[0]} x {size[1]}; bring it to the picture's size first")  # fmt: skip
        encoded: dict[str, Any] = coco_mask.frPyObjects({"size": list(own), "counts": lengths.tolist()}, *own)
        return encoded
    parts = [segmentation] if _is_polygon(segmentation) else segmentation
    kept = [part for part in parts if _is_polygon(part)] if isinstance(parts, list | tuple) else []
    if not kept:  # parts of two points beside others cover no pixel
        raise ValueError(f"{where} has the mask {shorten(segmentation)}, expected run lengths or polygons of three "
                         "points or more")  # fmt: skip
    if size is None:
        sides = image.get("height"), image.get("width")
        raise ValueError(f"{where}: its image has the size {shorten(sides)}; masks need it")
    encoded = coco_mask.merge(coco_mask.frPyObjects([[float(value) for value in part] for part in kept], *size))
    return encoded


def _is_polygon(part: Any) -> bool:
    there = isinstance(part, list | tuple) and len(part) >= 6 and not len(part) % 2
    return there and all(type(value) in (int, float) and math.isfinite(value) for value in part)


def _size_of(image: Mapping[str, Any]) -> tuple[int, int] | None:
    sides = image.get("height"), image.get("width")
    if not all(isinstance(side, int | float) and side == side and 0 < side <= LARGEST_SIDE for side in sides):
        return None
    return int(sides[0] or 0), int(sides[1] or 0)


def _limits(rows: Sequence[Mapping[str, Any]], images: Mapping[Any, Mapping[str, Any]]) -> Any:
    sizes = {identity: _size_of(image) or (math.inf, math.inf) for identity, image in images.items()}
    return np.asarray([sizes[row["image_id"]][::-1] for row in rows], dtype=np.float64).reshape(-1, 2)


def tell_truth(rows: Sequence[Mapping[str, Any]]) -> None:
    """Tells rows that are listed twice, and areas that cannot be those of the boxes.

    Args:
        rows: Renumbered; `row` is the place in the file's own list, the area the file's own or one of ours.
    """
    boxed = [row for row in rows if row.get("bbox") is not None and not row["iscrowd"]]
    boxes_N4 = np.asarray([row["bbox"] for row in boxed], dtype=np.float64).reshape(-1, 4)
    columns = (np.asarray([row[key] for row in boxed], dtype=np.float64) for key in ("image_id", "category_id"))
    twice = repeated(*columns, boxes_N4)
    if len(twice):
        log.warning("%d of %d annotations repeat an earlier one (same picture, class and box), such as annotations[%d]"
                    ": only one of each can be found", len(twice), len(boxed), boxed[int(twice[0])]["row"])  # fmt: skip
    odd = odd_areas(np.asarray([row["area"] for row in boxed], dtype=np.float64), boxes_N4)
    if 2 * len(odd) > len(boxed):
        row = boxed[int(odd[0])]
        log.warning('%d of %d annotations have an "area" that their boxes cannot have, such as %g of annotations[%d] '
                    "%s: AP of small, medium and large ones goes by it", len(odd), len(boxed), row["area"], row["row"],
                    row["bbox"])  # fmt: skip


def look_at_results(rows: Sequence[Mapping[str, Any]], images: Mapping[Any, Mapping[str, Any]]) -> None:
    """Tells results that are there twice or look like corners, and refuses shares of pictures.

    Args:
        rows: Renumbered boxes.
        images: Their pictures by id.

    Raises:
        ValueError: All boxes lie within the first pixel of their picture.
    """
    if not rows or "bbox" not in rows[0]:
        return
    boxes_N4 = np.asarray([row["bbox"] for row in rows], dtype=np.float64)
    limits_N2 = _limits(rows, images)
    if are_shares(boxes_N4, limits_N2):
        raise ValueError(f"all of the {len(rows)} boxes of the results lie within the first pixel of their picture, "
                         f"such as {rows[0]['bbox']}; are they shares of it? expected pixels")  # fmt: skip
    corners = like_corners(boxes_N4, limits_N2)
    if len(corners):
        log.warning("%d of %d results reach beyond their picture, and each is wider and higher than it is far in, such "
                    "as %s: are they corners (x0, y0, x1, y1)? expected x, y, width, height", len(corners), len(rows),
                    rows[int(corners[0])]["bbox"])  # fmt: skip
    columns = (np.asarray([row[key] for row in rows]) for key in ("image_id", "category_id", "score"))
    twice = repeated(*columns, boxes_N4)
    if len(twice):
        log.warning("%d of %d results repeat an earlier one (same picture, class, box and score), such as %s: were "
                    "those of several processes put together twice?", len(twice), len(rows),
                    rows[int(twice[0])]["bbox"])  # fmt: skip
