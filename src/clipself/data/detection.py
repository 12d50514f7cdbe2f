"""Images with boxes for detectors: any COCO-format file, OV-COCO and OV-LVIS among them."""

import logging
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from clipself.data.images import read_image
from clipself.data.jitter import SMALLEST_SIDE, Framed, Framing
from clipself.data.labelled import decode_segmentation
from clipself.data.sources import check_images_exist, file_name_of, read_json
from clipself.ops.boxes import xywh_to_xyxy
from clipself.structures import DetectionBatch
from clipself.text.vocabulary import load_vocabulary

log = logging.getLogger(__name__)

SPLITS: Final[Mapping[str, str]] = {"ov-coco": "ov_coco_65", "ov-lvis": "lvis_v1_1203"}
"""Published split -> the packaged vocabulary that marks its novel classes."""

LEAST_IMAGE_SIDE: Final = 32
"""Images with a shorter side are not trained on, as published."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassSplit:
    """Classes in the order of their labels.

    Attributes:
        ids: The data set's own category ids.
        names: Their names.
        is_base: Whether training may see them.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]
    is_base: tuple[bool, ...]

    @property
    def base(self) -> list[str]:
        """Names that training may see."""
        return [name for name, base in zip(self.names, self.is_base, strict=True) if base]

    @property
    def novel(self) -> list[str]:
        """Names held out of training."""
        return [name for name, base in zip(self.names, self.is_base, strict=True) if not base]

    def groups(self) -> dict[str, list[int]]:
        """Category ids of "base", "novel" and "all"."""
        rows = list(zip(self.ids, self.is_base, strict=True))
        return {
            "base": [category for category, base in rows if base],
            "novel": [category for category, base in rows if not base],
            "all": list(self.ids),
        }


def split_classes(
    categories: Sequence[Mapping[str, Any]],
    *,
    split: str | None = None,
    base: Path | str | Iterable[str] | None = None,
    novel: Path | str | Iterable[str] | None = None,
) -> ClassSplit:
    """Which of a file's classes take part, and which of them training may see; in the order of their ids.

    Args:
        categories: The file's "categories".
        split: "ov-coco" (48 base, 17 novel, 15 left out) or "ov-lvis" (rare is novel).
        base: Names, or a text file of them; with `novel` alone given, all others.
        novel: Names held out; neither given: every class is base.

    Raises:
        ValueError: A name is not in the file, is in both lists, or no class is left.
    """
    ordered = sorted(categories, key=lambda row: int(row["id"]))
    names = [str(row["name"]) for row in ordered]
    if split is not None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}, expected one of {sorted(SPLITS)}")
        vocab = load_vocabulary(SPLITS[split])
        marked = {category: novel for category, novel in zip(vocab.ids, vocab.is_novel, strict=True)}
        kept = [row for row in ordered if int(row["id"]) in marked]
        flags = [not marked[int(row["id"])] for row in kept]
    else:
        held_out, seen = _names(novel), _names(base)
        for listed, what in ((held_out, "novel"), (seen, "base")):
            unknown = sorted(set(listed or ()) - set(names))
            if unknown:
                raise ValueError(
                    f"the {what} name {unknown[0]!r} is not a category of the file; it has {names[:6]} ..."
                )
        both = sorted(set(held_out or ()) & set(seen or ()))
        if both:
            raise ValueError(f"{both[0]!r} is listed as base and as novel; it can be only one")
        apart = set(held_out or ())
        wanted = set(seen) | apart if seen is not None else set(names)
        kept = [row for row in ordered if str(row["name"]) in wanted]
        flags = [str(row["name"]) not in apart for row in kept]
    if not any(flags):
        raise ValueError("no class is left to train on; list some names as base")
    return ClassSplit(
        ids=tuple(int(row["id"]) for row in kept), names=tuple(str(row["name"]) for row in kept), is_base=tuple(flags)
    )


def _names(given: Path | str | Iterable[str] | None) -> list[str] | None:
    if given is None:
        return None
    return list(load_vocabulary(given).names) if isinstance(given, Path | str) else list(given)


class CocoDetection:
    """A COCO or LVIS instances file as arrays: 16 bytes a box, whatever the file holds besides.

    Crowds are left out, as published; so are boxes below one pixel a side, and classes that training may not see.

    Args:
        annotations: Instances JSON; images may lack `file_name` as LVIS's do.
        images: Folder of the pictures.
        split: See `split_classes`.
        base: See `split_classes`.
        novel: See `split_classes`.
        train: Whether novel boxes are dropped, and images without any box left with them.
        masks: Whether masks are kept.
        keep_empty: Whether images without boxes stay while training; they teach what background is.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The file is not of that form, names do not fit, or nothing is left.
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        *,
        split: str | None = None,
        base: Path | str | Iterable[str] | None = None,
        novel: Path | str | Iterable[str] | None = None,
        train: bool = True,
        masks: bool = False,
        keep_empty: bool = False,
    ) -> None:
        held = read_json(annotations)
        if not isinstance(held, Mapping) or not {"images", "annotations", "categories"} <= set(held):
            raise ValueError(f'{annotations} lacks "images", "annotations" or "categories"; pass a COCO instances file')
        self.source = str(annotations)
        self.classes = split_classes(held["categories"], split=split, base=base, novel=novel)
        self.masks = masks
        by_image = self._group(held["annotations"], train=train)
        rows = held["images"]
        if train:
            big = [row for row in rows if min(row.get("height", 1e9), row.get("width", 1e9)) >= LEAST_IMAGE_SIDE]
            rows = [row for row in big if keep_empty or by_image.get(row["id"])]
            if not rows:
                raise ValueError(
                    f"{annotations} holds no box of a base class in an image of at least {LEAST_IMAGE_SIDE} px; "
                    "check --base and --novel"
                )
        elif split == "ov-coco":  # published: images with a base or novel box, 4,836 of val2017
            used = {row["image_id"] for row in held["annotations"] if row["category_id"] in set(self.classes.ids)}
            rows = [row for row in rows if row["id"] in used]
        self.ids = [row["id"] for row in rows]
        self.paths = [Path(images) / file_name_of(row) for row in rows]
        self.names = [file_name_of(row) for row in rows]
        check_images_exist(self.paths, source=str(annotations))
        groups = [by_image.get(image_id, []) for image_id in self.ids]
        self._start = np.cumsum([0, *map(len, groups)], dtype=np.int64)
        flat = [row for group in groups for row in group]
        self._boxes = np.asarray([row["bbox"] for row in flat], dtype=np.float32).reshape(-1, 4)
        rank = {category: place for place, category in enumerate(self.classes.ids)}
        self._labels = np.asarray([rank[row["category_id"]] for row in flat], dtype=np.int32)
        self._segments = [row.get("segmentation") for row in flat] if masks else []
        if masks and not all(self._segments):
            raise ValueError(f"{annotations} has boxes without masks; train without a mask head (mask_convs=0)")

    def _group(self, annotations: Sequence[Mapping[str, Any]], *, train: bool) -> dict[Any, list[Mapping[str, Any]]]:
        wanted = {
            category for category, base in zip(self.classes.ids, self.classes.is_base, strict=True) if base or not train
        }
        by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for row in annotations:
            width, height = row["bbox"][2], row["bbox"][3]
            if row["category_id"] in wanted and not row.get("iscrowd", 0) and width >= 1 and height >= 1:
                by_image[row["image_id"]].append(row)
        return by_image

    def __len__(self) -> int:
        return len(self.paths)

    def boxes(self, index: int) -> Tensor:
        """`xyxy` boxes (r, 4) of an image in original pixels.

        Raises:
            ValueError: A box is not finite.
        """
        xywh = torch.from_numpy(self._boxes[self._start[index] : self._start[index + 1]])
        if not bool(xywh.isfinite().all()):
            raise ValueError(f"{self.source}, {self.paths[index].name}: a box is not finite; repair the annotation")
        return xywh_to_xyxy(xywh)

    def labels(self, index: int) -> Tensor:
        """Place of each box's class in `classes` (r,)."""
        return torch.from_numpy(self._labels[self._start[index] : self._start[index + 1]].astype(np.int64))

    def images_of_classes(self) -> Tensor:
        """How many images hold each class of `classes`, (K,)."""
        images = np.repeat(np.arange(len(self)), np.diff(self._start))
        pairs = np.unique(np.stack([images, self._labels]), axis=1)
        return torch.from_numpy(np.bincount(pairs[1], minlength=len(self.classes.ids)))

    def segments(self, index: int) -> list[Any]:
        """COCO segmentation of each box."""
        return self._segments[int(self._start[index]) : int(self._start[index + 1])]


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


class DetectionDataset(Dataset[DetectionSample]):
    """Images of a COCO file as a detector wants them, jittered anew each epoch.

    Every draw follows from (seed, epoch, index), so neither workers nor processes change it.

    Args:
        source: Images and boxes.
        framing: How the detector wants its pictures.
        seed: Seed of every draw.
        views: Number of different jitters of an image; None draws a new one each epoch.
    """

    def __init__(self, source: CocoDetection, framing: Framing, *, seed: int = 0, views: int | None = None) -> None:
        self.source, self.framing, self.seed, self.views = source, framing, seed, views

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | tuple[int, int]) -> DetectionSample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        view = epoch if self.views is None else epoch % self.views
        rng = random.Random(f"{self.seed}/{view}/{index}")
        image = read_image(self.source.paths[index])
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
        )

    def _masks(self, index: int, framed: Framed, size: tuple[int, int], *, canvas: tuple[int, int]) -> Tensor:
        masks = [
            framed.mask(decode_segmentation(segment, size), canvas=canvas) for segment in self.source.segments(index)
        ]
        return torch.stack(masks) if masks else torch.zeros(0, *canvas, dtype=torch.bool)


def collate_detection(samples: Sequence[DetectionSample]) -> DetectionBatch:
    """Stacks the images, padded with zeros to the largest, and keeps the rest image by image."""
    masks = [sample.masks for sample in samples if sample.masks is not None]
    return DetectionBatch(
        images_B3HW=stack_padded([sample.image_3HW for sample in samples]),
        sizes=tuple(sample.size for sample in samples),
        boxes=tuple(sample.boxes for sample in samples),
        labels=tuple(sample.labels for sample in samples),
        masks=tuple(masks) if len(masks) == len(samples) else None,
        names=tuple(sample.name for sample in samples),
        rows=tuple(sample.row for sample in samples),
    )


def stack_padded(images: Sequence[Tensor]) -> Tensor:
    """Images (3, h, w) as one tensor (B, 3, H, W), zero right and below of each."""
    height, width = (max(int(image.shape[axis]) for image in images) for axis in (1, 2))
    return torch.stack([F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images])
