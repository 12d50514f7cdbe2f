"""Instances files of COCO, LVIS and labelling tools, read and checked once into columns."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from clipself.data.coco.fitting import Fitting
from clipself.data.coco.kinds import Opened, open_coco, rows_of
from clipself.data.coco.report import Notes, ReadReport
from clipself.data.coco.rows import (
    Category,
    CocoImage,
    clean_box,
    clean_flag,
    clean_id,
    clean_number,
    place,
    read_categories,
    read_images,
    refuse,
    say_unlisted,
)
from clipself.data.coco.segments import NO_MASK, Segments, SegmentsBuilder, drop, pack
from clipself.files import without_collection
from clipself.ops.run_lengths import shorten

WANTED: Final = "a COCO instances file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Instances:
    """Pictures, classes and N annotated rows, all by place; ids are the file's own and serve what comes out.

    Attributes:
        source: The file.
        images: Its pictures, each once.
        categories: Its classes, in the order of their ids.
        image_N: Place of each row's picture in `images`.
        category_N: Place of its class in `categories`; -1 where classes were not asked for.
        boxes_N4: `xywh` in pixels, as annotated.
        area_N: Area as annotated; NaN where the file does not say.
        crowd_N: Crowds True.
        row_N: Place in the file's own list.
        fit_N: Boxes that have width and height and touch their picture.
        segments: Masks; None where they were not asked for.
        report: What was read of what is listed.
    """

    source: str
    images: tuple[CocoImage, ...]
    categories: tuple[Category, ...]
    image_N: NDArray[np.int64]
    category_N: NDArray[np.int64]
    boxes_N4: NDArray[np.float64]
    area_N: NDArray[np.float64]
    crowd_N: NDArray[np.bool_]
    row_N: NDArray[np.int64]
    fit_N: NDArray[np.bool_]
    segments: Segments | None
    report: ReadReport

    def __len__(self) -> int:
        return len(self.image_N)

    def place(self, row: int) -> str:
        """How messages name a row."""
        return place(self.source, "annotations", int(self.row_N[row]))

    def rows_by_image(self, keep_N: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
        """For each picture the rows that are kept, in the file's order."""
        rows = np.flatnonzero(keep_N)
        order = rows[np.argsort(self.image_N[rows], kind="stable")]
        bounds = np.searchsorted(self.image_N[order], np.arange(len(self.images) + 1))
        return [order[bounds[image] : bounds[image + 1]] for image in range(len(self.images))]


def read_instances(
    source: str | Path | Opened | Instances,
    *,
    masks: bool = False,
    classes: bool = True,
    images: str | Path | None = None,
) -> Instances:
    """Reads and checks an instances file, or labels of YOLO, labelme, Label Studio, CVAT or VOC.

    Args:
        source: The file or folder; what is read already stays as it is.
        masks: Whether masks are read.
        classes: Whether rows must name a class; boxes to distil on need none.
        images: Folder of the pictures; see `open_coco`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another kind, or a row holds what cannot be meant; the row is named.
    """
    if isinstance(source, Instances):
        return source
    opened = open_coco(source, hook=pack if masks else drop, images=images).require("instances", wanted=WANTED)
    notes = opened.notes.copy()
    rows = rows_of(opened, "annotations")
    pictures = read_images(opened, notes)
    categories = read_categories(opened, _used(rows), notes) if classes else ()
    reader = _Reader(opened.source, pictures, categories, notes, masks=masks, classes=classes)
    with without_collection():
        for number, row in enumerate(rows):
            reader.add(number, row)
    listed, count = opened.listed or len(rows), len(opened.value.get("categories") or ()) if classes else 0
    return reader.finish(listed=listed, classes=count, form=opened.form)


def _used(rows: list[Any]) -> set[Any]:
    """Class ids that some row names."""
    return {clean_id(row.get("category_id")) for row in rows if isinstance(row, Mapping)} - {None}


def _turned(row: Mapping[str, Any]) -> bool:
    """Whether a row says that its box is turned, as CVAT's and datumaro's exports do."""
    said = row.get("attributes")
    turn = said.get("rotation") if isinstance(said, Mapping) else row.get("rotation")
    return isinstance(turn, int | float) and bool(turn % 360)


class _Reader:
    """Checks row after row and keeps columns."""

    def __init__(
        self,
        source: str,
        images: tuple[CocoImage, ...],
        categories: tuple[Category, ...],
        notes: Notes,
        *,
        masks: bool,
        classes: bool,
    ) -> None:
        self.source, self.images, self.categories, self.notes = source, images, categories, notes
        self.masks, self.classes = masks, classes
        self.image_of: dict[Any, int] = {image.id: number for number, image in enumerate(images)}
        self.texts: set[str] | None = None
        self.label_of: dict[Any, int] = {category.id: label for label, category in enumerate(categories)}
        self.ids: array[int] = array("q")
        self.labels: array[int] = array("q")
        self.boxes: array[float] = array("d")
        self.areas: array[float] = array("d")
        self.crowds = bytearray()
        self.numbers: array[int] = array("q")
        self.segments = SegmentsBuilder()

    def add(self, number: int, row: Any) -> None:
        if not isinstance(row, Mapping):
            self._refuse(number, row, f"is {shorten(row)}, expected an object")
        image = self._image(number, row)
        if image is None:
            return
        label = self._label(number, row, image) if self.classes else -1
        box = self._box_and_mask(number, row, image)
        if box is None:
            return
        crowd, area = clean_flag(row.get("iscrowd")), row.get("area")
        if crowd is None:
            self._refuse(number, row, f'its "iscrowd" is {shorten(row["iscrowd"])}, expected 0 or 1')
        if row.get("ignore") and not crowd:
            self.notes.add('rows marked "ignore" count as any other, as COCO\'s tool has it', f"annotations[{number}]")
        if _turned(row):
            self.notes.add(
                "boxes hold a rotation that COCO's have not; they are read unturned", f"annotations[{number}]"
            )
        clean = float("nan") if area is None else clean_number(area)
        if clean is None or clean < 0:
            self._refuse(number, row, f'its "area" is {shorten(area)}, expected pixels')
        self.ids.append(image)
        self.labels.append(label)
        self.boxes.extend(box)
        self.areas.append(clean)
        self.crowds.append(crowd)
        self.numbers.append(number)

    def _refuse(self, number: int, row: Any, why: str, image: int | None = None) -> NoReturn:
        file = "" if image is None else f", picture {self.images[image].file}"
        refuse(self.source, "annotations", number, row, why + file)

    def _image(self, number: int, row: Mapping[str, Any]) -> int | None:
        given = clean_id(row.get("image_id"))
        if given is None:
            said = shorten(row.get("image_id"))
            self._refuse(number, row, f'its "image_id" is {said}, expected a number or text')
        image = self.image_of.get(given)
        if image is None:
            if self.texts is None:
                self.texts = {str(one) for one in self.image_of}
            if str(given) in self.texts:
                self._refuse(number, row, say_unlisted(given, list(self.image_of), what="image_id"))
            self.notes.add("rows of pictures that the file does not list left out", f"annotations[{number}]")
        return image

    def _label(self, number: int, row: Mapping[str, Any], image: int) -> int:
        given = clean_id(row.get("category_id"))
        label = None if given is None else self.label_of.get(given)
        if label is None:
            why = say_unlisted(row.get("category_id"), list(self.label_of), what="category_id")
            self._refuse(number, row, why, image)
        return label

    def _box_and_mask(self, number: int, row: Mapping[str, Any], image: int) -> Any:
        given, size = row.get("bbox"), self.images[image].size
        lacks = given is None or (isinstance(given, list | tuple) and not given)
        box = None if lacks else clean_box(given)
        if isinstance(box, str):
            self._refuse(number, row, box, image)
        if not self.masks and box is not None:
            return box
        try:
            remark = self.segments.add(row.get("segmentation"), size=size)
        except ValueError as error:
            self._refuse(number, row, str(error), image)
        if remark is not None:
            self.notes.add(remark, f"annotations[{number}], {self.images[image].file}")
        if box is not None:
            return box
        return self._box_of_mask(number, row, image)

    def _box_of_mask(self, number: int, row: Mapping[str, Any], image: int) -> Any:
        """Rows without a box have that of their mask."""
        last = len(self.segments.kinds) - 1
        if self.segments.kinds[last] == NO_MASK:
            self._refuse(number, row, 'has neither "bbox" nor "segmentation"', image)
        alone = SegmentsBuilder()
        alone.add(row.get("segmentation"), size=self.images[image].size)
        box = alone.build().bounds(0)
        if box is None:
            self.notes.add("rows without a box and with an empty mask left out", f"annotations[{number}]")
            self.segments.forget()
            return None
        self.notes.add("rows without a box have that of their mask", f"annotations[{number}]")
        if not self.masks:
            self.segments.forget()
        return box

    def finish(self, *, listed: int, classes: int, form: str = "") -> Instances:
        image_N = np.asarray(self.ids, dtype=np.int64)
        boxes_N4 = np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4)
        numbers = np.asarray(self.numbers, dtype=np.int64)
        if listed and not len(numbers):
            raise ValueError(
                f"{self.source}: none of its {listed} rows belongs to one of its {len(self.images)} pictures, or has a "
                "box; is it put together from two files?"
            )
        category_N, area_N = np.asarray(self.labels, dtype=np.int64), np.asarray(self.areas, dtype=np.float64)
        crowd_N = np.frombuffer(bytes(self.crowds), dtype=np.uint8).astype(bool)
        segments = self.segments.build() if self.masks else None
        fitting = Fitting(
            source=self.source, images=self.images, notes=self.notes, image_N=image_N, boxes_N4=boxes_N4,
            numbers=numbers,
        )  # fmt: skip
        fit_N = fitting.fit()
        fitting.remark(area_N=area_N, label_N=category_N, crowd_N=crowd_N, segments=segments)
        report = ReadReport(
            source=self.source,
            kind=f"instances, {form}" if form else "instances",
            listed={"pictures": len(self.images), "rows": listed} | ({"classes": classes} if self.classes else {}),
            read={"pictures": len(np.unique(image_N)), "rows": int(fit_N.sum())}
            | ({"classes": len(np.unique(category_N))} if self.classes else {}),
            remarks=self.notes.remarks(),
        )  # fmt: skip
        return Instances(
            source=self.source, images=self.images, categories=self.categories, image_N=image_N,
            category_N=category_N, boxes_N4=boxes_N4, area_N=area_N, crowd_N=crowd_N, row_N=numbers, fit_N=fit_N,
            segments=segments, report=report,
        )  # fmt: skip
