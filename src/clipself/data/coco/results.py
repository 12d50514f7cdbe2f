"""Lists without classes of their own: results and proposals of a detector, and masks that some tool found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clipself.data.coco.fitting import CORNERS, FLAT, OUTSIDE, limits_of
from clipself.data.coco.instances import read_instances
from clipself.data.coco.kinds import KINDS, Opened, open_coco
from clipself.data.coco.report import Notes, ReadReport
from clipself.data.coco.rows import (
    CocoImage,
    clean_box,
    clean_id,
    clean_number,
    file_name_of,
    place,
    refuse,
    say_unlisted,
)
from clipself.data.coco.segments import Segments, SegmentsBuilder, drop, pack
from clipself.ops.box_forms import are_shares, like_corners, repeated
from clipself.ops.run_lengths import shorten

OTHERS: Final = "boxes of other pictures left out"

FARTHEST_SCORE: Final = 1.5
"""SAM's guesses of an IoU lie a little beyond 1; per cents far beyond."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposals:
    """Boxes for the pictures of another file.

    Attributes:
        image_N: Place of each box's picture.
        boxes_N4: `xywh` in pixels.
        report: What was read of what is listed.
    """

    image_N: NDArray[np.int64]
    boxes_N4: NDArray[np.float64]
    report: ReadReport


def read_proposals(source: str | Path, images: Sequence[CocoImage]) -> Proposals:
    """Reads boxes from a list of results, or from the rows of an instances file.

    Args:
        source: The file.
        images: Pictures that the boxes are for.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no boxes, or a row holds what cannot be meant; the row is named.
    """
    opened = open_coco(source, hook=drop)
    if opened.kind == "empty" or (isinstance(opened.value, Mapping) and opened.value.get("annotations") == []):
        raise ValueError(f"{source} holds no proposals; make some first, or distil image patches instead")
    if opened.kind == "instances" and "images" not in opened.value:
        opened = Opened(source=opened.source, kind="results", value=opened.value.get("annotations"))
    if opened.kind not in ("results", "instances") or not isinstance(opened.value, list | Mapping):
        raise ValueError(
            f'{source} is not a list of {{"image_id", "bbox", "score"}} but {KINDS[opened.kind]}; pass a COCO-results '
            "file"
        )
    if opened.kind == "instances":
        return _of_instances(opened, images)
    notes, ids, boxes, numbers = Notes(), list[int](), list[Any](), list[int]()
    image_of: dict[Any, int] = {image.id: number for number, image in enumerate(images)}
    texts = {str(one) for one in image_of}
    for number, row in enumerate(opened.value):
        box, image = _read_box(opened.source, number, row), image_of.get(clean_id(row.get("image_id")))
        if image is None:
            if str(row["image_id"]) in texts:
                why = say_unlisted(row["image_id"], list(image_of), what="image_id")
                refuse(opened.source, "row", number, row, why)
            notes.add(OTHERS, f"row {number}")
        elif box[2] == 0 or box[3] == 0:
            notes.add(FLAT, f"row {number}")
        elif _is_outside(box, images[image].size):
            notes.add(OUTSIDE, f"row {number}")
        else:
            ids.append(image)
            boxes.append(box)
            numbers.append(number)
    image_N, boxes_N4 = np.asarray(ids, dtype=np.int64), np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    limits_N2 = limits_of(images, image_N)
    if are_shares(boxes_N4, limits_N2):
        raise ValueError(f"{source}: all of its {len(boxes)} boxes lie within the first pixel of their picture, such "
                         f"as row {numbers[0]} {list(boxes[0])}; are they shares of it? expected pixels")  # fmt: skip
    for row in repeated(image_N, boxes_N4):
        notes.add("boxes repeat an earlier one and count twice", f"row {numbers[int(row)]}")
    for row in like_corners(boxes_N4, limits_N2):
        notes.add(CORNERS, f"row {numbers[int(row)]}, {images[ids[int(row)]].file}")
    report = ReadReport(
        source=opened.source,
        kind="results",
        listed={"pictures": len(images), "rows": len(opened.value)},
        read={"pictures": len(set(ids)), "rows": len(boxes)},
        remarks=notes.remarks(),
    )
    return Proposals(image_N=image_N, boxes_N4=boxes_N4, report=report)


def read_results(opened: Opened) -> ReadReport:
    """Looks through a list of results without the pictures that they are for.

    Raises:
        ValueError: A row holds what cannot be meant; the row is named.
    """
    notes, read, pictures = Notes(), 0, set[Any]()
    for number, row in enumerate(opened.value):
        box = _read_box(opened.source, number, row)
        pictures.add(clean_id(row["image_id"]))
        if box[2] == 0 or box[3] == 0:
            notes.add(FLAT, f"row {number}")
        else:
            read += 1
    return ReadReport(
        source=opened.source, kind="results", listed={"pictures": len(pictures), "rows": len(opened.value)},
        read={"pictures": len(pictures), "rows": read}, remarks=notes.remarks(),
    )  # fmt: skip


def _of_instances(opened: Opened, images: Sequence[CocoImage]) -> Proposals:
    """The boxes of a file of its own pictures, whose ids are those of the others."""
    table = read_instances(opened, classes=False)
    place_of = {image.id: number for number, image in enumerate(images)}
    texts = {str(one) for one in place_of}
    for image in table.images:
        if image.id not in place_of and str(image.id) in texts:
            refuse(opened.source, "images", image.row, None, say_unlisted(image.id, list(place_of), what="id"))
    moved = np.asarray([place_of.get(image.id, -1) for image in table.images], dtype=np.int64)
    image_N = moved[table.image_N] if len(moved) else np.zeros(0, dtype=np.int64)
    keep = table.fit_N & (image_N >= 0)
    notes = Notes()
    for row in np.flatnonzero(table.fit_N & (image_N < 0)):
        notes.add(OTHERS, f"annotations[{int(table.row_N[row])}]")
    report = replace(
        table.report, read={"pictures": len(np.unique(image_N[keep])), "rows": int(keep.sum())},
        remarks=(*table.report.remarks, *notes.remarks()),
    )  # fmt: skip
    return Proposals(image_N=image_N[keep], boxes_N4=table.boxes_N4[keep], report=report)


def _read_box(source: str, number: int, row: Any) -> tuple[float, float, float, float]:
    if not isinstance(row, Mapping):
        refuse(source, "row", number, row, f"is {shorten(row)}, expected an object")
    if clean_id(row.get("image_id")) is None:
        refuse(
            source, "row", number, row, f'its "image_id" is {shorten(row.get("image_id"))}, expected a number or text'
        )
    box = clean_box(row.get("bbox"))
    if isinstance(box, str):
        refuse(source, "row", number, row, box)
    if row.get("score") is not None and clean_number(row["score"]) is None:
        refuse(source, "row", number, row, f'its "score" is {shorten(row["score"])}, expected a number')
    return box


def _is_outside(box: tuple[float, float, float, float], size: tuple[int, int] | None) -> bool:
    x, y, width, height = box
    past = size is not None and (x >= size[1] or y >= size[0])
    return past or x + width <= 0 or y + height <= 0


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskRows:
    """Masks that some tool found.

    Attributes:
        source: The file.
        keys: For each row the file or id of its picture; None where it does not say.
        scores: For each row its score, 1 where it does not say.
        segments: The masks.
        rows: Place of each in the file's own list.
        by_id: Whether pictures are named by ids alone, those of a COCO file that is not at hand.
        report: What was read of what is listed.
    """

    source: str
    keys: tuple[str | None, ...]
    scores: tuple[float, ...]
    segments: Segments
    rows: tuple[int, ...]
    by_id: bool
    report: ReadReport

    def place(self, row: int) -> str:
        """How messages name a row."""
        return place(self.source, "row", self.rows[row])


def read_masks(source: str | Path | Opened) -> MaskRows:
    """Reads a list of masks: {"file_name" or "image_id", "segmentation", and, where known, "score"}.

    Args:
        source: The file: a list, or {"annotations": list} as SAM writes it, with "images" or without.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another kind, or a row holds what cannot be meant; the row is named.
    """
    opened = open_coco(source, hook=pack)
    value = opened.value.get("annotations") if isinstance(opened.value, Mapping) else opened.value
    if not isinstance(value, list) or opened.kind == "captions":
        raise ValueError(
            f"{opened.source} holds no masks but is {KINDS[opened.kind]}; pass a COCO panoptic JSON, a list of run "
            "lengths, or a folder of them"
        )
    files = _files(opened)
    notes, builder = Notes(), SegmentsBuilder()
    keys, scores, rows = list[str | None](), list[float](), list[int]()
    for number, row in enumerate(value):
        if not isinstance(row, Mapping):
            refuse(opened.source, "row", number, row, f"is {shorten(row)}, expected an object")
        if "segmentation" not in row:
            refuse(
                opened.source,
                "row",
                number,
                row,
                f"has neither segments_info nor segmentation: {shorten(sorted(map(str, row)), most=80)}",
            )
        key = _key_of(opened.source, number, row, files)
        if not _add(builder, notes, opened.source, number, row):
            continue
        keys.append(key)
        scores.append(_score_of(opened.source, number, row))
        rows.append(number)
    if len(value) and not rows:
        raise ValueError(f"{opened.source}: none of its {len(value)} rows has a mask of three points or more")
    segments = builder.build()
    _tell_masks(segments, keys, rows, notes)
    report = ReadReport(
        source=opened.source, kind="masks", listed={"pictures": len(set(keys)), "rows": len(value)},
        read={"pictures": len(set(keys)), "rows": len(rows)}, remarks=notes.remarks(),
    )  # fmt: skip
    return MaskRows(
        source=opened.source, keys=tuple(keys), scores=tuple(scores), segments=segments, rows=tuple(rows),
        by_id=not files and any(keys) and not any("file_name" in row for row in value), report=report,
    )  # fmt: skip


def _tell_masks(segments: Segments, keys: Sequence[str | None], rows: Sequence[int], notes: Notes) -> None:
    """Remarks masks that cover nothing, and those that are there twice."""
    earlier = set[tuple[str | None, bytes]]()
    for index, (key, row) in enumerate(zip(keys, rows, strict=True)):
        runs = segments.runs.get(index)
        if runs is not None and segments.bounds(index) is None:
            notes.add("masks without a pixel", f"row {row}")
            continue
        shape = np.concatenate(segments.polygons(index)) if runs is None else runs[0]
        if (key, shape.tobytes()) in earlier:
            notes.add("masks repeat an earlier one of their picture", f"row {row}")
        earlier.add((key, shape.tobytes()))


def _add(builder: SegmentsBuilder, notes: Notes, source: str, number: int, row: Mapping[str, Any]) -> bool:
    try:
        builder.add(row["segmentation"], size=None)
    except ValueError as error:
        refuse(source, "row", number, row, str(error))
    if builder.kinds[-1] in (0, 3):
        builder.forget()
        notes.add("masks of fewer than three points left out", f"row {number}")
        return False
    return True


def _files(opened: Opened) -> dict[Any, str]:
    """Picture id -> file, for lists that come with their pictures."""
    images = opened.value.get("images") if isinstance(opened.value, Mapping) else None
    found: dict[Any, str] = {}
    one = opened.value.get("image") if isinstance(opened.value, Mapping) else None
    if isinstance(one, Mapping) and file_name_of(one) is not None:  # SA-1B: a file for one picture
        return {None: str(file_name_of(one))}
    for number, image in enumerate(images if isinstance(images, list) else ()):
        identity = clean_id(image.get("id")) if isinstance(image, Mapping) else None
        file = file_name_of(image) if isinstance(image, Mapping) else None
        if identity is None or file is None:
            refuse(opened.source, "images", number, image, 'has no "id" or "file_name"')
        found[identity] = file
    return found


def _key_of(source: str, number: int, row: Mapping[str, Any], files: Mapping[Any, str]) -> str | None:
    identity, file = row.get("image_id"), row.get("file_name")
    if identity is not None and clean_id(identity) is None:
        refuse(source, "row", number, row, f'its "image_id" is {shorten(identity)}, expected a number or text')
    if file is not None and file_name_of(row) is None:
        refuse(source, "row", number, row, f'its "file_name" is {shorten(file)}, expected text')
    if clean_id(identity) in files:
        return files[clean_id(identity)]
    if files and file is None:
        refuse(source, "row", number, row, say_unlisted(identity, list(files), what="image_id"))
    named = file_name_of(row)
    return named if named is not None else None if identity is None else str(clean_id(identity))


def _score_of(source: str, number: int, row: Mapping[str, Any]) -> float:
    given = row.get("score", row.get("predicted_iou", 1.0))
    score = clean_number(given)
    if score is None or not 1 - FARTHEST_SCORE <= score <= FARTHEST_SCORE:
        refuse(source, "row", number, row, f'its "score" is {shorten(given)}, expected a number in [0, 1]')
    return score
