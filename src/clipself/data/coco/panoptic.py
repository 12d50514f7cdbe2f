"""Panoptic files of COCO and ADE20K: one PNG of segment ids a picture, and what the ids are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clipself.data.coco.kinds import Opened, open_coco, rows_of
from clipself.data.coco.report import Notes, ReadReport
from clipself.data.coco.rows import (
    Category,
    CocoImage,
    clean_box,
    clean_flag,
    clean_id,
    place,
    read_categories,
    read_images,
    refuse,
    say_unlisted,
    whole,
)
from clipself.ops.run_lengths import shorten

WANTED: Final = "a COCO panoptic file"
LARGEST_ID: Final = 256**3 - 1
"""Ids are colours of three bytes."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a picture.

    Attributes:
        id: Value of its pixels, above 0.
        label: Place of its class.
        is_crowd: Whether it is a region of many instances.
        box: `xywh` as annotated; None where the file does not say.
    """

    id: int
    label: int
    is_crowd: bool
    box: tuple[float, float, float, float] | None


@dataclass(frozen=True, slots=True)
class PanopticRow:
    """One labelled picture.

    Attributes:
        image: The picture.
        file: Its PNG below the folder of segments.
        segments: What the ids in it are.
        row: Place in the file's own list.
    """

    image: CocoImage
    file: str
    segments: tuple[Segment, ...]
    row: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticRows:
    """Labelled pictures and classes of a panoptic file.

    Attributes:
        source: The file.
        categories: Its classes, in the order of their ids; labels are places in it.
        rows: Its labelled pictures, each once, in the file's order.
        report: What was read of what is listed.
    """

    source: str
    categories: tuple[Category, ...]
    rows: tuple[PanopticRow, ...]
    report: ReadReport

    def folder(self, given: str | Path | None = None) -> Path:
        """Folder of the PNGs: the one given, or that beside the file with its name."""
        return Path(given) if given is not None else Path(self.source).with_suffix("")


def read_panoptic(source: str | Path | Opened | PanopticRows) -> PanopticRows:
    """Reads and checks a panoptic file; what is read already stays as it is.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another kind, or a row holds what cannot be meant; the row is named.
    """
    if isinstance(source, PanopticRows):
        return source
    opened = open_coco(source).require("panoptic", wanted=WANTED)
    notes, listed = Notes(), rows_of(opened, "annotations")
    images = {image.id: image for image in read_images(opened, notes)}
    categories = read_categories(opened, _used(listed), notes)
    for number, one in enumerate(rows_of(opened, "categories")):
        if isinstance(one, Mapping) and one.get("isthing") is None:
            notes.add('classes do not say "isthing" and are taken for things', f"categories[{number}]")
    label_of: dict[Any, int] = {category.id: label for label, category in enumerate(categories)}
    found: dict[Any, PanopticRow] = {}
    for number, held in enumerate(listed):
        row = _read_row(opened.source, number, held, images, label_of, notes)
        if row is None:
            continue
        before = found.get(row.image.id)
        if before is not None and (before.file, before.segments) != (row.file, row.segments):
            refuse(opened.source, "annotations", number, held,
                   f"labels {row.image.file} again, as annotations[{before.row}] does, and otherwise")  # fmt: skip
        if before is not None:
            notes.add("labels listed twice, counted once", f"annotations[{number}]")
        found.setdefault(row.image.id, row)
    if listed and not found:
        raise ValueError(f"{opened.source}: none of its {len(listed)} rows belongs to one of its pictures")
    occurring = {segment.label for row in found.values() for segment in row.segments}
    report = ReadReport(
        source=opened.source,
        kind="panoptic",
        listed={"pictures": len(images), "rows": len(listed), "classes": len(opened.value.get("categories") or ())},
        read={"pictures": len(found), "rows": len(found), "classes": len(occurring)},
        remarks=notes.remarks(),
    )
    return PanopticRows(source=opened.source, categories=categories, rows=tuple(found.values()), report=report)


def _used(rows: list[Any]) -> set[Any]:
    infos = [row.get("segments_info") for row in rows if isinstance(row, Mapping)]
    segments = [one for info in infos if isinstance(info, list) for one in info if isinstance(one, Mapping)]
    return {clean_id(one.get("category_id")) for one in segments} - {None}


def _read_row(
    source: str,
    number: int,
    held: Any,
    images: Mapping[Any, CocoImage],
    label_of: Mapping[Any, int],
    notes: Notes,
) -> PanopticRow | None:
    if not isinstance(held, Mapping):
        refuse(source, "annotations", number, held, f"is {shorten(held)}, expected an object")
    given = clean_id(held.get("image_id"))
    if given is None:
        refuse(source, "annotations", number, held,
               f'its "image_id" is {shorten(held.get("image_id"))}, expected a number or text')  # fmt: skip
    image = images.get(given)
    if image is None:
        if str(given) in {str(one) for one in images}:
            refuse(source, "annotations", number, held, say_unlisted(given, list(images), what="image_id"))
        notes.add("rows of pictures that the file does not list left out", f"annotations[{number}]")
        return None
    file, infos = held.get("file_name"), held.get("segments_info")
    if not isinstance(file, str) or not file.strip() or "\0" in file:
        refuse(source, "annotations", number, held, f'its "file_name" is {shorten(file)}, expected that of its PNG')
    if not isinstance(infos, list):
        refuse(source, "annotations", number, held, f'its "segments_info" is {shorten(infos)}, expected a list')
    where = f"{place(source, 'annotations', number)} ({image.file})"
    segments = tuple(_read_segment(f"{where}, segments_info[{one}]", info, label_of) for one, info in enumerate(infos))
    taken: dict[int, int] = {}
    for one, segment in enumerate(segments):
        if segment.id in taken:
            raise ValueError(
                f"{where}: segments_info[{one}] has the id {segment.id} of segments_info[{taken[segment.id]}]; whose "
                "are its pixels?"
            )
        taken[segment.id] = one
    return PanopticRow(image, file.replace("\\", "/"), segments, number)


def _read_segment(where: str, info: Any, label_of: Mapping[Any, int]) -> Segment:
    if not isinstance(info, Mapping):
        raise ValueError(f"{where} is {shorten(info)}, expected an object")
    value, crowd, box = whole(info.get("id")), clean_flag(info.get("iscrowd")), info.get("bbox")
    if value is None or not 0 < value <= LARGEST_ID:
        raise ValueError(f'{where}: its "id" is {shorten(info.get("id"))}, expected 1 to {LARGEST_ID}; 0 is void')
    given = clean_id(info.get("category_id"))
    label = None if given is None else label_of.get(given)
    if label is None:
        raise ValueError(f"{where}: {say_unlisted(info.get('category_id'), list(label_of), what='category_id')}")
    if crowd is None:
        raise ValueError(f'{where}: its "iscrowd" is {shorten(info.get("iscrowd"))}, expected 0 or 1')
    clean = None if box is None or (isinstance(box, list) and not box) else clean_box(box)
    if isinstance(clean, str):
        raise ValueError(f"{where}: {clean}")
    return Segment(value, label, crowd, clean)
