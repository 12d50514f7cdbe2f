"""Images with boxes for detectors: any COCO-format file, OV-COCO and OV-LVIS among them."""

import logging
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from clipself.data.coco.instances import Instances, read_instances
from clipself.data.coco.rows import check_picture_size
from clipself.data.coco.segments import NO_MASK, UNUSABLE
from clipself.data.coco.splits import SPLITS as SPLITS
from clipself.data.coco.splits import ClassSplit as ClassSplit
from clipself.data.coco.splits import split_classes as split_classes
from clipself.data.images import read_image
from clipself.data.jitter import SMALLEST_SIDE, Framed, Framing, SquareCanvas
from clipself.data.once import Once
from clipself.data.sources import check_images_exist
from clipself.data.turned import tell_turned
from clipself.ops.boxes import xywh_to_xyxy
from clipself.renamed import warn_renamed
from clipself.structures import DetectionBatch

log = logging.getLogger(__name__)

LEAST_IMAGE_SIDE: Final = 32
"""Images with a shorter side are not trained on, as published."""


class CocoDetection:
    """A COCO or LVIS instances file as arrays, a view on `data.coco`: 16 bytes a box, whatever the file holds besides.

    Crowds are left out, as published; so are boxes below one pixel a side, and classes that training may not see.

    Args:
        annotations: Instances JSON, or what was read of it; images may lack `file_name` as LVIS's do.
        images: Folder of the pictures.
        split: See `split_classes`.
        base: See `split_classes`.
        novel: See `split_classes`.
        train: Whether novel boxes are dropped, and images without any box left with them.
        masks: Whether masks are kept.
        keep_empty: Whether images without boxes stay while training; they teach what background is.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The file is not of that form, a row cannot be meant, names do not fit, or nothing is left.
    """

    def __init__(
        self,
        annotations: str | Path | Instances,
        images: str | Path,
        *,
        split: str | None = None,
        base: Path | str | Iterable[str] | None = None,
        novel: Path | str | Iterable[str] | None = None,
        train: bool = True,
        masks: bool = False,
        keep_empty: bool = False,
    ) -> None:
        self.table = read_instances(annotations, masks=masks or not train, images=images)
        """All rows of the file, checked."""
        self.source, self.report, self._turned = self.table.source, self.table.report.tell(), Once(log)
        self.classes = split_classes(
            self.table.categories, split=split, base=base, novel=novel, train=train, source=self.source
        )
        self.masks = masks
        groups = self.table.rows_by_image(self._wanted(train=train))
        chosen = self._images(groups, train=train, keep_empty=keep_empty, published=split == "ov-coco")
        self.images = [self.table.images[place] for place in chosen]
        self.ids = [image.id for image in self.images]
        self.names = [image.file for image in self.images]
        self.paths = [Path(images) / name for name in self.names]
        check_images_exist(self.paths, source=self.source)
        self._start = np.cumsum([0, *(len(groups[place]) for place in chosen)], dtype=np.int64)
        self._rows = np.concatenate([np.zeros(0, dtype=np.int64), *(groups[place] for place in chosen)])
        self._boxes = self.table.boxes_N4[self._rows].astype(np.float32)
        self._labels = self._ranks()[self.table.category_N[self._rows]].astype(np.int32)
        if masks and self.table.segments is not None and NO_MASK in self.table.segments.kind_N[self._rows]:
            raise ValueError(f"{self.source} has boxes without masks; train without a mask head (mask_convs=0)")

    def _ranks(self) -> NDArray[np.int64]:
        """Label of each class of the file; -1 where it takes no part."""
        rank = {category: label for label, category in enumerate(self.classes.ids)}
        return np.asarray([*(rank.get(one.id, -1) for one in self.table.categories), -1], dtype=np.int64)

    def _wanted(self, *, train: bool) -> NDArray[np.bool_]:
        """Rows that are learned from, or looked for."""
        table, base = self.table, np.asarray([*self.classes.is_base, False])
        label_N = self._ranks()[table.category_N] if len(table) else np.zeros(0, dtype=np.int64)
        wanted = (label_N >= 0) & (base[label_N] | (not train)) & ~table.crowd_N & table.fit_N
        if self.masks and table.segments is not None:
            wanted &= table.segments.kind_N != UNUSABLE
        keep: NDArray[np.bool_] = wanted & (table.boxes_N4[:, 2:] >= 1).all(1)
        return keep

    def _images(
        self, groups: Sequence[NDArray[np.int64]], *, train: bool, keep_empty: bool, published: bool
    ) -> list[int]:
        listed = self.table.images
        if train:
            chosen = [
                place
                for place, image in enumerate(listed)
                if (image.size is None or min(image.size) >= LEAST_IMAGE_SIDE) and (keep_empty or len(groups[place]))
            ]
            if not chosen:
                raise ValueError(
                    f"{self.source} holds no box of a base class in an image of at least {LEAST_IMAGE_SIDE} px; "
                    "check --base and --novel"
                )
            return chosen
        label_N = self._ranks()[self.table.category_N]
        if not bool((label_N >= 0).any()):
            raise ValueError(
                f"{self.source} holds no box of the classes that are looked for; there is nothing to score"
            )
        used = np.unique(self.table.image_N[label_N >= 0]).tolist()
        return used if published else list(range(len(listed)))  # 4,836 images of val2017 have a base or novel box

    def __len__(self) -> int:
        return len(self.paths)

    def boxes(self, index: int) -> Tensor:
        """`xyxy` boxes (r, 4) of an image in original pixels."""
        return xywh_to_xyxy(torch.from_numpy(self._boxes[self._start[index] : self._start[index + 1]]))

    def labels(self, index: int) -> Tensor:
        """Place of each box's class in `classes` (r,)."""
        return torch.from_numpy(self._labels[self._start[index] : self._start[index + 1]].astype(np.int64))

    def negatives(self, index: int) -> Tensor:
        """Places in `classes` of what the file says was looked for in an image and not found (n,); LVIS does."""
        rank = {category: label for label, category in enumerate(self.classes.ids)}
        labels = [rank[one] for one in self.images[index].negative or () if one in rank]
        return torch.tensor(labels, dtype=torch.long)

    def rows(self, index: int) -> NDArray[np.int64]:
        """Place of each box in the file's own list (r,)."""
        rows: NDArray[np.int64] = self.table.row_N[self._rows[self._start[index] : self._start[index + 1]]]
        return rows

    def images_of_classes(self) -> Tensor:
        """How many images hold each class of `classes`, (K,)."""
        images = np.repeat(np.arange(len(self)), np.diff(self._start))
        pairs = np.unique(np.stack([images, self._labels]), axis=1)
        return torch.from_numpy(np.bincount(pairs[1], minlength=len(self.classes.ids)))

    def check_size(self, index: int, size: tuple[int, int], *, image: Image.Image | None = None) -> None:
        """Refuses an image whose height and width are not those that the file lists; see `check_picture_size`.

        Tells once that an image was turned by its tag; see `tell_turned`.

        Args:
            index: Of the image.
            size: Its height and width.
            image: Itself, where it is at hand; else its file is asked.
        """
        check_picture_size(self.images[index], size, source=self.source)
        tell_turned(self._turned, image or str(self.paths[index]), name=self.names[index])

    def mask(self, index: int, place: int, size: tuple[int, int]) -> Tensor:
        """Boolean mask (H, W) of one box of an image.

        Raises:
            ValueError: The mask has another size than the image.
        """
        row = int(self._rows[int(self._start[index]) + place])
        assert self.table.segments is not None
        try:
            return self.table.segments.decode(row, size)
        except ValueError as error:
            raise ValueError(f"{self.table.place(row)}, {self.paths[index].name}: {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionSample:
    """One image ready for a batch; the fields are those of `DetectionBatch` for one image."""

    image_3HW: Tensor
    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    masks: Tensor | None
    name: str
    row: int
    negatives: Tensor
    image_labels: Tensor | None = None
    caption: str | None = None


class DetectionDataset(Dataset[DetectionSample]):
    """Images of a COCO file as a detector wants them, jittered anew each epoch.

    Every draw follows from (seed, epoch, index), so neither workers nor processes change it.

    Args:
        source: Images and boxes.
        framing: How the detector wants its pictures.
        seed: Seed of every draw.
        views: Number of different jitters of an image; None draws a new one each epoch.
    """

    def __init__(
        self,
        source: CocoDetection,
        framing: Framing | None = None,
        *,
        seed: int = 0,
        views: int | None = None,
        **canvas: Any,
    ) -> None:
        if framing is None:  # preprocess, side, scales and flip stood here themselves
            framing = SquareCanvas(**{"scales": (0.1, 2.0), "flip": 0.5, **canvas})
            warn_renamed("DetectionDataset(source, preprocess=, side=)", "DetectionDataset(source, SquareCanvas(...))")
        elif canvas:
            raise TypeError(f"{next(iter(canvas))!r} is a setting of the framing, not of the data set")
        self.source, self.framing, self.seed, self.views = source, framing, seed, views

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | tuple[int, int]) -> DetectionSample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        view = epoch if self.views is None else epoch % self.views
        rng = random.Random(f"{self.seed}/{view}/{index}")
        image = read_image(self.source.paths[index])
        self.source.check_size(index, (image.height, image.width), image=image)
        framed = self.framing.train(image, rng)
        pixels_3HW = self.framing.pixels(framed)
        boxes, labels = framed.boxes(self.source.boxes(index)), self.source.labels(index)
        keep = ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST_SIDE).all(1)
        masks = None
        if self.source.masks:
            canvas = (pixels_3HW.shape[1], pixels_3HW.shape[2])
            masks = self._masks(index, framed, (image.height, image.width), canvas=canvas)
            keep &= masks.flatten(1).any(1)
            masks = masks[keep]
        return DetectionSample(
            image_3HW=pixels_3HW,
            size=(framed.image.height, framed.image.width),
            boxes=boxes[keep],
            labels=labels[keep],
            masks=masks,
            name=self.source.names[index],
            row=index * (self.views or 1) + (view if self.views else 0),
            negatives=self.source.negatives(index),
        )

    def _masks(self, index: int, framed: Framed, size: tuple[int, int], *, canvas: tuple[int, int]) -> Tensor:
        count = len(self.source.labels(index))
        masks = [framed.mask(self.source.mask(index, place, size), canvas=canvas) for place in range(count)]
        return torch.stack(masks) if masks else torch.zeros(0, *canvas, dtype=torch.bool)


def collate_detection(samples: Sequence[DetectionSample]) -> DetectionBatch:
    """Stacks the images, padded with zeros to the largest, and keeps the rest image by image."""
    masks = [sample.masks for sample in samples if sample.masks is not None]
    captions = [sample.caption for sample in samples if sample.caption is not None]
    image_labels = [sample.image_labels for sample in samples if sample.image_labels is not None]
    return DetectionBatch(
        images_B3HW=stack_padded([sample.image_3HW for sample in samples]),
        sizes=tuple(sample.size for sample in samples),
        boxes=tuple(sample.boxes for sample in samples),
        labels=tuple(sample.labels for sample in samples),
        masks=tuple(masks) if len(masks) == len(samples) else None,
        names=tuple(sample.name for sample in samples),
        rows=tuple(sample.row for sample in samples),
        negatives=tuple(sample.negatives for sample in samples),
        image_labels=tuple(image_labels) if len(image_labels) == len(samples) else None,
        captions=tuple(captions) if len(captions) == len(samples) else None,
    )


def stack_padded(images: Sequence[Tensor]) -> Tensor:
    """Images (3, h, w) as one tensor (B, 3, H, W), zero right and below of each."""
    height, width = (max(int(image.shape[axis]) for image in images) for axis in (1, 2))
    return torch.stack([F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images])
