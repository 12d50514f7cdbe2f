"""Labelled regions for evaluation: COCO panoptic segments or COCO instances, by the published protocol."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipself.data.coco.fitting import LEAST_IOU
from clipself.data.coco.instances import read_instances
from clipself.data.coco.kinds import Opened, open_coco
from clipself.data.coco.report import ReadReport
from clipself.data.coco.rows import Id, check_picture_size
from clipself.data.coco.segments import UNUSABLE, Segments, pack
from clipself.data.coco.segments import decode_segmentation as decode_segmentation
from clipself.data.images import read_image
from clipself.data.limit import first_of
from clipself.data.once import Once
from clipself.data.panoptic import PanopticFile
from clipself.data.preprocess import Preprocess, boxes_on_student
from clipself.data.regions import MAX_AREA, MIN_AREA
from clipself.data.sources import check_images_exist
from clipself.data.turned import tell_turned
from clipself.ops.box_forms import iou_of_rows
from clipself.ops.boxes import check_boxes, enlarge_boxes, xywh_to_xyxy, xyxy_to_xywh
from clipself.ops.masks import masks_to_boxes, resize_masks_to_grid
from clipself.structures import RegionSample

log = logging.getLogger(__name__)

MAX_SEGMENTS: Final = 100
"""Segments looked at in an image (CLIPSelf, released evaluation)."""

THING_ENLARGE: Final = 1.5
"""Teacher crops of things are this many times as wide and high; those of stuff are tight."""


class LabelledImages(Protocol):
    """Images with labelled boxes and masks."""

    class_ids: list[Id]
    class_names: list[str]
    class_is_thing: list[bool]
    report: ReadReport
    """What was read of what is listed."""

    def __len__(self) -> int:
        """How many images there are."""

    def read(self, index: int) -> "LabelledImage":
        """Decodes one image and its annotation."""


class LabelledImage:
    """One image as annotated, in original pixels.

    Attributes:
        image: RGB picture.
        boxes: (R, 4) `xyxy`.
        masks_RHW: Boolean masks, or None.
        labels_R: Index into the classes of the data set.
        is_thing_R: Things True.
        name: Path of the image.
    """

    def __init__(
        self, image: Image.Image, boxes: Tensor, masks: Tensor | None, labels: Tensor, is_thing: Tensor, name: str
    ) -> None:
        self.image, self.boxes, self.masks_RHW = image, boxes, masks
        self.labels_R, self.is_thing_R, self.name = labels, is_thing, name


class CocoPanoptic:
    """COCO panoptic: segments of things and stuff, as `PanopticFile` reads them.

    Args:
        annotations: Panoptic JSON, or what was read of it.
        segments: Folder of the PNGs; None is the folder beside the JSON with its name.
        images: Folder of the pictures.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The JSON is not a panoptic one, or a row of it cannot be meant.
    """

    def __init__(
        self, annotations: str | Path | Opened, images: str | Path, *, segments: str | Path | None = None
    ) -> None:
        self.held = PanopticFile(annotations, images, segments=segments)
        self.class_ids, self.class_names = self.held.class_ids, self.held.class_names
        self.class_is_thing = self.held.class_is_thing
        self.paths, self.report = self.held.paths, self.held.report
        self._apart = Once(log)

    def __len__(self) -> int:
        return len(self.held)

    def read(self, index: int) -> LabelledImage:
        """Decodes the picture and its segments; boxes of stuff, and boxes without an area, are those of the masks."""
        truth, infos = self.held.read(index), self.held.rows[index].segments[:MAX_SEGMENTS]
        ids = torch.from_numpy(truth.ids_HW)
        labels = torch.tensor([info.label for info in infos], dtype=torch.long)
        is_thing = torch.tensor(self.class_is_thing)[labels] if infos else torch.zeros(0, dtype=torch.bool)
        masks = (
            torch.stack([ids == info.id for info in infos]) if infos else torch.zeros(0, *ids.shape, dtype=torch.bool)
        )
        tight = masks_to_boxes(masks)
        given = [info.box for info in infos]
        boxes = tight.clone()
        for place, box in enumerate(given):
            if box is not None and is_thing[place]:
                self._tell_apart(index, box, tight[place])
                if box[2] > 0 and box[3] > 0:
                    boxes[place] = xywh_to_xyxy(torch.tensor(box, dtype=tight.dtype))
        return LabelledImage(truth.image, boxes, masks, labels, is_thing, truth.name)

    def _tell_apart(self, index: int, box: tuple[float, float, float, float], tight: Tensor) -> None:
        """Says once that a box is not around its mask, as one that was resized or written in another form is not."""
        bounds = xyxy_to_xywh(tight.double())[None].numpy()
        if self._apart.said or bool((bounds[:, 2:] < 4).any()):  # of a few pixels a box may be rounded to anything
            return
        if float(iou_of_rows(np.asarray([box]), bounds)[0]) < LEAST_IOU:
            self._apart.warn(
                "%s: the box %s (x, y, width, height) does not lie around its mask in %s, whose bounds are %s (two "
                "corners); were boxes or masks resized, or is it written in another form? Boxes with an area are used "
                "as they stand",
                self.held.report.source, list(box), self.paths[index].name, tight.tolist(),
            )  # fmt: skip


class CocoInstances:
    """COCO instances: boxes and masks of things, a view on `data.coco`; crowds are left out.

    Rows whose box has no width or height, lies outside its picture, or whose polygons have no three points are passed
    over and counted.

    Args:
        annotations: Instances JSON (COCO or LVIS), or what was read of it.
        images: Folder of the pictures.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The JSON is not an instances one, a row of it cannot be meant, or it holds no annotations.
    """

    def __init__(self, annotations: str | Path | Opened, images: str | Path) -> None:
        table = read_instances(annotations, masks=True, images=images)
        assert table.segments is not None
        self.table, self.source, self.report = table, table.source, table.report.tell()
        self._turned = Once(log)
        self.class_ids = [one.id for one in table.categories]
        self.class_names = [one.name for one in table.categories]
        self.class_is_thing = [one.is_thing for one in table.categories]
        groups = table.rows_by_image(table.fit_N & ~table.crowd_N & (table.segments.kind_N != UNUSABLE))
        kept = [place for place, rows in enumerate(groups) if len(rows)]
        if not kept:
            raise ValueError(f"{self.source} holds no annotations, so there is nothing to evaluate")
        self.rows, self.images = [groups[place] for place in kept], [table.images[place] for place in kept]
        self.paths = [Path(images) / image.file for image in self.images]
        check_images_exist(self.paths, source=self.source)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> LabelledImage:
        """Decodes the picture and its instances; no masks where one of them has none.

        Raises:
            ValueError: The picture has another size than the file says or than a mask, or a box lies outside it.
        """
        image, rows = read_image(self.paths[index]), self.rows[index][:MAX_SEGMENTS]
        size = (image.height, image.width)
        check_picture_size(self.images[index], size, source=self.source)
        tell_turned(self._turned, image, name=str(self.paths[index]))
        labels = torch.from_numpy(self.table.category_N[rows])
        xywh = torch.from_numpy(self.table.boxes_N4[rows].astype(np.float32))
        boxes = check_boxes(xywh_to_xyxy(xywh), size=size, source=f"{self.source}, {self.paths[index].name}")
        segments = self.table.segments
        assert segments is not None
        masks = None
        if bool(segments.has_mask_N[rows].all()):
            masks = torch.stack([self._mask(segments, int(row), size, self.paths[index].name) for row in rows])
        is_thing = torch.tensor(self.class_is_thing)[labels]
        return LabelledImage(image, boxes, masks, labels, is_thing, str(self.paths[index]))

    def _mask(self, segments: Segments, row: int, size: tuple[int, int], name: str) -> Tensor:
        try:
            return segments.decode(row, size)
        except ValueError as error:
            raise ValueError(f"{self.table.place(row)}, {name}: {error}") from error


def open_labelled(annotations: str | Path, images: str | Path) -> LabelledImages:
    """Opens a COCO file as panoptic or as instances, whichever it is."""
    held = open_coco(annotations, hook=pack, images=images)
    if held.kind == "panoptic":
        return CocoPanoptic(held, images)
    return CocoInstances(held.require("instances", wanted="a COCO instances or panoptic file"), images)


class RegionSamples:
    """Streams `RegionSample`s of a labelled data set, one image at a time.

    Args:
        data: Labelled images.
        preprocess: Normalisation of the model.
        image_size: Side of the square student input, in pixels.
        patch_size: Patch of the model, in pixels.
        crop_size: Side of the teacher crops; None makes no crops.
        limit: First images only.
    """

    def __init__(
        self,
        data: LabelledImages,
        *,
        preprocess: Preprocess,
        image_size: int,
        patch_size: int,
        crop_size: int | None = None,
        limit: int | None = None,
    ) -> None:
        self.data, self.preprocess = data, preprocess
        self.image_size, self.patch_size, self.crop_size = image_size, patch_size, crop_size
        self._empty = Once(log)
        self.length = first_of(len(data), limit)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[RegionSample]:
        return (self[index] for index in range(self.length))

    def __getitem__(self, index: int) -> RegionSample:
        held = self.data.read(index)
        self._tell_empty(held)
        sides = held.boxes[:, 2:] - held.boxes[:, :2]
        areas = sides[:, 0] * sides[:, 1]
        keep = (areas >= MIN_AREA) & (areas <= MAX_AREA)
        boxes, is_thing = held.boxes[keep], held.is_thing_R[keep]
        student, scale = self.preprocess.student_image(held.image, self.image_size)
        grid = self.image_size // self.patch_size
        return RegionSample(
            image_3HW=student,
            boxes_norm=boxes_on_student(boxes, scale=scale, side=self.image_size),
            masks_RYX=None if held.masks_RHW is None else resize_masks_to_grid(held.masks_RHW[keep], grid=grid),
            crops_R3hw=None if self.crop_size is None else self._crops(held.image, boxes, is_thing, self.crop_size),
            labels_R=held.labels_R[keep],
            is_thing_R=is_thing,
            name=held.name,
        )

    def _tell_empty(self, held: LabelledImage) -> None:
        """Says once that a mask has no pixel, such as a polygon outside its picture: no name is right for it."""
        if self._empty.said or held.masks_RHW is None or not len(held.masks_RHW):
            return
        empty = int((~held.masks_RHW.flatten(1).any(1)).sum())
        if empty:
            self._empty.warn(
                "%s: %d of its %d masks cover no pixel; such masks count as named by chance, here and elsewhere",
                held.name, empty, len(held.masks_RHW),
            )  # fmt: skip

    def _crops(self, image: Image.Image, boxes: Tensor, is_thing: Tensor, side: int) -> Tensor:
        enlarged = enlarge_boxes(boxes, factor=THING_ENLARGE, size=(image.height, image.width))
        return self.preprocess.teacher_crops(image, torch.where(is_thing[:, None], enlarged, boxes), side)
