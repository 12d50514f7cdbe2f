"""Labelled regions for evaluation: COCO panoptic segments or COCO instances, by the published protocol."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from PIL import Image
from torch import Tensor

from clipself.data.images import check_size, read_image, read_segment_ids
from clipself.data.preprocess import Preprocess, boxes_on_student
from clipself.data.regions import MAX_AREA, MIN_AREA
from clipself.data.sources import check_images_exist, file_name_of, read_json
from clipself.ops.boxes import check_boxes, enlarge_boxes, xywh_to_xyxy
from clipself.ops.masks import masks_to_boxes, resize_masks_to_grid
from clipself.structures import RegionSample

MAX_SEGMENTS: Final = 100
"""Segments looked at in an image (CLIPSelf, released evaluation)."""

THING_ENLARGE: Final = 1.5
"""Teacher crops of things are this many times as wide and high; those of stuff are tight."""


class LabelledImages(Protocol):
    """Images with labelled boxes and masks."""

    class_ids: list[int]
    class_names: list[str]
    class_is_thing: list[bool]

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
    """COCO panoptic: segments of things and stuff, ids in the PNGs as R + 256 G + 65536 B.

    Args:
        annotations: Panoptic JSON.
        segments: Folder of the PNGs; None is the folder beside the JSON with its name.
        images: Folder of the pictures.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The JSON is not a panoptic one.
    """

    def __init__(self, annotations: str | Path, images: str | Path, *, segments: str | Path | None = None) -> None:
        held = read_json(annotations)
        if not isinstance(held, Mapping) or not {"images", "annotations", "categories"} <= set(held):
            raise ValueError(f'{annotations} lacks "images", "annotations" or "categories"; pass a COCO panoptic file')
        if held["annotations"] and "segments_info" not in held["annotations"][0]:
            raise ValueError(f"{annotations} is not panoptic (no segments_info); read it as COCO instances")
        self.class_ids, self.class_names, self.class_is_thing = _classes(held["categories"])
        self.segments = Path(segments) if segments is not None else Path(annotations).with_suffix("")
        names = {row["id"]: file_name_of(row) for row in held["images"]}
        self.rows = [row for row in held["annotations"] if row["image_id"] in names]
        self.paths = [Path(images) / names[row["image_id"]] for row in self.rows]
        check_images_exist(self.paths, source=str(annotations))
        check_images_exist(
            [self.segments / row["file_name"] for row in self.rows], source=f"{annotations} (segment PNGs)"
        )

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> LabelledImage:
        """Decodes the picture and its segments; the box of stuff is the tight one of its mask."""
        row = self.rows[index]
        image = read_image(self.paths[index])
        png = self.segments / row["file_name"]
        values = read_segment_ids(png, listed=[info["id"] for info in row["segments_info"]])
        check_size(values, image.size, source=png, picture=self.paths[index])
        ids = torch.from_numpy(values)
        infos = row["segments_info"][:MAX_SEGMENTS]
        rank = {class_id: place for place, class_id in enumerate(self.class_ids)}
        labels = torch.tensor([rank[info["category_id"]] for info in infos], dtype=torch.long)
        is_thing = torch.tensor(self.class_is_thing)[labels] if len(infos) else torch.zeros(0, dtype=torch.bool)
        masks = (
            torch.stack([ids == info["id"] for info in infos])
            if infos
            else torch.zeros(0, *ids.shape, dtype=torch.bool)
        )
        annotated = xywh_to_xyxy(torch.tensor([info["bbox"] for info in infos], dtype=torch.float32).reshape(-1, 4))
        boxes = torch.where(is_thing[:, None], annotated, masks_to_boxes(masks))
        return LabelledImage(image, boxes, masks, labels, is_thing, str(self.paths[index]))


class CocoInstances:
    """COCO instances: boxes and masks of things; crowds are left out.

    Args:
        annotations: Instances JSON (COCO or LVIS).
        images: Folder of the pictures.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The JSON is not an instances one or holds no annotations.
    """

    def __init__(self, annotations: str | Path, images: str | Path) -> None:
        held = read_json(annotations)
        if not isinstance(held, Mapping) or not {"images", "annotations", "categories"} <= set(held):
            raise ValueError(f'{annotations} lacks "images", "annotations" or "categories"; pass a COCO instances file')
        self.source = str(annotations)
        self.class_ids, self.class_names, self.class_is_thing = _classes(held["categories"])
        by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for row in held["annotations"]:
            if not row.get("iscrowd", 0):
                by_image[row["image_id"]].append(row)
        if not by_image:
            raise ValueError(f"{annotations} holds no annotations, so there is nothing to evaluate")
        kept = [row for row in held["images"] if row["id"] in by_image]
        self.rows = [by_image[row["id"]] for row in kept]
        self.paths = [Path(images) / file_name_of(row) for row in kept]
        check_images_exist(self.paths, source=str(annotations))

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> LabelledImage:
        """Decodes the picture and its instances.

        Raises:
            ValueError: A box is swapped, empty, outside the image or not finite.
        """
        image = read_image(self.paths[index])
        rows = self.rows[index][:MAX_SEGMENTS]
        size = (image.height, image.width)
        rank = {class_id: place for place, class_id in enumerate(self.class_ids)}
        labels = torch.tensor([rank[row["category_id"]] for row in rows], dtype=torch.long)
        xywh = torch.tensor([row["bbox"] for row in rows], dtype=torch.float32).reshape(-1, 4)
        boxes = check_boxes(xywh_to_xyxy(xywh), size=size, source=f"{self.source}, {self.paths[index].name}")
        masks = None
        if all(row.get("segmentation") for row in rows):
            masks = torch.stack([decode_segmentation(row["segmentation"], size) for row in rows])
        is_thing = torch.tensor(self.class_is_thing)[labels]
        return LabelledImage(image, boxes, masks, labels, is_thing, str(self.paths[index]))


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> Tensor:
    """Polygons or run lengths of COCO -> boolean mask (H, W)."""
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        encoded = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        encoded = coco_mask.frPyObjects(segmentation, *size)
    else:
        encoded = segmentation
    return torch.from_numpy(coco_mask.decode(encoded).astype(bool))


def open_labelled(annotations: str | Path, images: str | Path) -> LabelledImages:
    """Opens a COCO file as panoptic or as instances, whichever it is."""
    held = read_json(annotations)
    rows = held.get("annotations") if isinstance(held, Mapping) else None
    if rows and "segments_info" in rows[0]:
        return CocoPanoptic(annotations, images)
    return CocoInstances(annotations, images)


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
        self.length = len(data) if limit is None else min(limit, len(data))

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[RegionSample]:
        return (self[index] for index in range(self.length))

    def __getitem__(self, index: int) -> RegionSample:
        held = self.data.read(index)
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

    def _crops(self, image: Image.Image, boxes: Tensor, is_thing: Tensor, side: int) -> Tensor:
        enlarged = enlarge_boxes(boxes, factor=THING_ENLARGE, size=(image.height, image.width))
        return self.preprocess.teacher_crops(image, torch.where(is_thing[:, None], enlarged, boxes), side)


def _classes(categories: list[Mapping[str, Any]]) -> tuple[list[int], list[str], list[bool]]:
    ordered = sorted(categories, key=lambda row: int(row["id"]))
    ids = [int(row["id"]) for row in ordered]
    return ids, [str(row["name"]) for row in ordered], [bool(row.get("isthing", 1)) for row in ordered]
