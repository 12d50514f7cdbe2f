"""What travels between rooms; each checks its own shapes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, overload

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillBatch:
    """Images with their regions, for one step of self-distillation.

    Attributes:
        images_B3HW: Student images, normalised, padded right and below.
        boxes_norm: For each image its regions (r, 4), `xyxy` in [0, 1] of the padded image.
        crops_R3hw: Teacher crops of all regions, in the same order, normalised.
        names: Where each image came from.
    """

    images_B3HW: Tensor
    boxes_norm: tuple[Tensor, ...]
    crops_R3hw: Tensor
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        regions = sum(len(boxes) for boxes in self.boxes_norm)
        if len(self.boxes_norm) != len(self.images_B3HW) or regions != len(self.crops_R3hw):
            raise ValueError(
                f"{len(self.images_B3HW)} images, {len(self.boxes_norm)} sets of boxes with {regions} boxes and "
                f"{len(self.crops_R3hw)} crops do not belong together; there is one crop for each box"
            )

    @property
    def num_regions(self) -> int:
        """Regions of all images."""
        return len(self.crops_R3hw)

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> "DistillBatch":
        """The same batch on another device."""
        return replace(
            self,
            images_B3HW=self.images_B3HW.to(device, non_blocking=True),
            boxes_norm=tuple(boxes.to(device, non_blocking=True) for boxes in self.boxes_norm),
            crops_R3hw=self.crops_R3hw.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "DistillBatch":
        """The same batch in page-locked memory, for loaders that feed an accelerator."""
        return replace(
            self,
            images_B3HW=self.images_B3HW.pin_memory(),
            boxes_norm=tuple(boxes.pin_memory() for boxes in self.boxes_norm),
            crops_R3hw=self.crops_R3hw.pin_memory(),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionSample:
    """One image with labelled regions, for region classification.

    Attributes:
        image_3HW: Student image, normalised, padded right and below to a square.
        boxes_norm: Regions (R, 4), `xyxy` in [0, 1] of the padded image.
        masks_RYX: Masks at the patch grid, boolean; None where the data has none.
        crops_R3hw: Teacher crops; None unless asked for.
        labels_R: Index into the vocabulary.
        is_thing_R: Things True, stuff False.
        name: Where the image came from.
    """

    image_3HW: Tensor
    boxes_norm: Tensor
    masks_RYX: Tensor | None
    crops_R3hw: Tensor | None
    labels_R: Tensor
    is_thing_R: Tensor
    name: str

    def __post_init__(self) -> None:
        counts = {len(self.boxes_norm), len(self.labels_R), len(self.is_thing_R)}
        counts |= {len(part) for part in (self.masks_RYX, self.crops_R3hw) if part is not None}
        if len(counts) != 1:
            raise ValueError(
                f"{self.name}: boxes, masks, crops and labels count {sorted(counts)} regions, expected one number"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionBatch:
    """Images with boxes to learn from, on one square canvas.

    Attributes:
        images_B3HW: Normalised images, zero right and below of each one's own pixels.
        sizes: Height and width of each one's own pixels.
        boxes: For each image its boxes (r, 4), `xyxy` in canvas pixels.
        labels: For each image the classes of its boxes (r,).
        masks: For each image its boolean masks (r, H, W); None where they are not wanted.
        names: Where each image came from; what a detector draws for it at random follows from its name.
        rows: For each image its place in a feature cache.
    """

    images_B3HW: Tensor
    sizes: tuple[tuple[int, int], ...]
    boxes: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    masks: tuple[Tensor, ...] | None
    names: tuple[str, ...]
    rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        images = len(self.images_B3HW)
        if {len(self.sizes), len(self.boxes), len(self.labels), len(self.names)} != {images}:
            raise ValueError(
                f"{images} images, but {len(self.sizes)} sizes, {len(self.boxes)} sets of boxes, {len(self.labels)} of "
                f"labels and {len(self.names)} names; each image needs one of each"
            )
        for name, boxes, labels in zip(self.names, self.boxes, self.labels, strict=True):
            if len(boxes) != len(labels):
                raise ValueError(f"{name}: {len(boxes)} boxes and {len(labels)} labels, expected one label a box")

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> "DetectionBatch":
        """The same batch on another device."""
        return replace(
            self,
            images_B3HW=self.images_B3HW.to(device, non_blocking=True),
            boxes=tuple(boxes.to(device, non_blocking=True) for boxes in self.boxes),
            labels=tuple(labels.to(device, non_blocking=True) for labels in self.labels),
            masks=None if self.masks is None else tuple(masks.to(device, non_blocking=True) for masks in self.masks),
        )

    def pin_memory(self) -> "DetectionBatch":
        """The same batch with its images in page-locked memory, for loaders that feed an accelerator."""
        return replace(self, images_B3HW=self.images_B3HW.pin_memory())


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """One found thing.

    Attributes:
        box: `xyxy` in pixels of the original image.
        score: In [0, 1].
        name: What it was found as.
        mask: Run lengths as COCO writes them; None where the detector has no mask head.
    """

    box: tuple[float, float, float, float]
    score: float
    name: str
    mask: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Detections:
    """What was found in one image, best first.

    Attributes:
        boxes: `xyxy` (N, 4) in pixels of the original image.
        scores: In [0, 1], (N,).
        labels: Index into `names` (N,).
        names: The classes that were asked for.
        size: Height and width of the original image.
        masks: Run lengths of each mask as COCO writes them; None where the detector has no mask head.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    names: tuple[str, ...]
    size: tuple[int, int]
    masks: tuple[dict[str, Any], ...] | None = field(default=None)

    def __post_init__(self) -> None:
        counts = {len(self.boxes), len(self.scores), len(self.labels)}
        if self.masks is not None:
            counts.add(len(self.masks))
        if len(counts) != 1:
            raise ValueError(f"boxes, scores, labels and masks count {sorted(counts)} detections, expected one number")

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detection]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, which: int) -> Detection: ...

    @overload
    def __getitem__(self, which: slice | Sequence[int] | Tensor) -> "Detections": ...

    def __getitem__(self, which: int | slice | Sequence[int] | Tensor) -> "Detection | Detections":
        """One of them by its place, or some by a slice, places or a mask of truth values."""
        if isinstance(which, int):
            row = range(len(self))[which]
            box: Any = tuple(self.boxes[row].tolist())
            name, mask = self.names[int(self.labels[row])], None if self.masks is None else self.masks[row]
            return Detection(box=box, score=float(self.scores[row]), name=name, mask=mask)
        kept = torch.arange(len(self))[which if isinstance(which, slice) else torch.as_tensor(which)]
        masks = None if self.masks is None else tuple(self.masks[row] for row in kept.tolist())
        return replace(self, boxes=self.boxes[kept], scores=self.scores[kept], labels=self.labels[kept], masks=masks)

    def above(self, threshold: float) -> "Detections":
        """Those that score at least `threshold`."""
        return self[self.scores >= threshold]

    def only(self, *names: str) -> "Detections":
        """Those of these names.

        Raises:
            ValueError: A name was not asked for.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise ValueError(f"{unknown[0]!r} was not asked for; the names are {', '.join(self.names[:10])}")
        wanted = [self.names.index(name) for name in names]
        return self[torch.isin(self.labels, torch.tensor(wanted, dtype=self.labels.dtype))]


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskTargets:
    """The labelled masks of one image, for training by mask classification.

    Attributes:
        labels_N: Index into the vocabulary, int64.
        masks_NHW: Masks, boolean or in [0, 1]; of any size, since losses look at them at relative points.
    """

    labels_N: Tensor
    masks_NHW: Tensor

    def __post_init__(self) -> None:
        if self.labels_N.ndim != 1 or self.masks_NHW.ndim != 3 or len(self.labels_N) != len(self.masks_NHW):
            raise ValueError(
                f"labels {tuple(self.labels_N.shape)} and masks {tuple(self.masks_NHW.shape)} do not belong together; "
                "expected (N,) and (N, H, W)"
            )

    def __len__(self) -> int:
        return len(self.labels_N)

    def to(self, device: torch.device | str) -> "MaskTargets":
        """The same targets on another device."""
        return replace(self, labels_N=self.labels_N.to(device), masks_NHW=self.masks_NHW.to(device))


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticBatch:
    """Pictures with a class for every pixel, for one step of segmentation training.

    Attributes:
        pixels_B3HW: Pictures in 0..255.
        labels_BHW: Index of each pixel's class, or the ignore label.
        names: Where each picture came from.
    """

    pixels_B3HW: Tensor
    labels_BHW: Tensor
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.pixels_B3HW.shape[2:] != self.labels_BHW.shape[1:] or len(self.names) != len(self.labels_BHW):
            raise ValueError(
                f"pictures {tuple(self.pixels_B3HW.shape)}, labels {tuple(self.labels_BHW.shape)} and "
                f"{len(self.names)} names do not belong together"
            )

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> "SemanticBatch":
        """The same batch on another device."""
        return replace(
            self,
            pixels_B3HW=self.pixels_B3HW.to(device, non_blocking=True),
            labels_BHW=self.labels_BHW.to(device, non_blocking=True),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRows:
    """Names as embeddings; a class may have several.

    Attributes:
        rows_SD: One row a name, the names of a class one after another.
        counts: How many names each class has.
    """

    rows_SD: Tensor
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.rows_SD.ndim != 2 or sum(self.counts) != len(self.rows_SD) or not self.counts or min(self.counts) < 1:
            raise ValueError(
                f"{tuple(self.rows_SD.shape)} rows do not hold the names of {len(self.counts)} classes "
                f"({sum(self.counts)} names); each class needs at least one row of the joint space"
            )

    @property
    def starts(self) -> list[int]:
        """The row of each class's first name."""
        return list(accumulate(self.counts[:-1], initial=0))

    def to(self, device: torch.device | str) -> "TextRows":
        """The same rows on another device."""
        return TextRows(rows_SD=self.rows_SD.to(device), counts=self.counts)


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticSegment:
    """One segment of a panoptic map.

    Attributes:
        id: Value of its pixels, from 1; 0 is void.
        label: Index into the vocabulary.
        is_thing: Things True, stuff False.
        score: Probability of the class; of the first mask where stuff was merged.
    """

    id: int
    label: int
    is_thing: bool
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Panoptic:
    """A picture of which every pixel belongs to one segment or to none.

    Attributes:
        ids_HW: Segment id of every pixel, int32; 0 is void.
        segments: What the ids are.
        names: The classes that were asked for.
    """

    ids_HW: Tensor
    segments: tuple[PanopticSegment, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ids = [segment.id for segment in self.segments]
        if self.ids_HW.ndim != 2 or len(set(ids)) < len(ids) or min(ids, default=1) < 1:
            raise ValueError(
                f"a map {tuple(self.ids_HW.shape)} with the segment ids {ids[:8]}; expected (H, W) and ids of their "
                "own from 1 on, since 0 is void"
            )

    def __len__(self) -> int:
        return len(self.segments)

    def mask(self, segment: PanopticSegment) -> Tensor:
        """The pixels of a segment (H, W), boolean."""
        mask_HW: Tensor = self.ids_HW == segment.id
        return mask_HW


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmentation:
    """A class for every pixel of a picture.

    Attributes:
        labels_HW: Index into the names.
        names: Class names.
        scores_HW: How strongly each pixel is of its class, by the measure of the segmenter; None where nobody says.
    """

    labels_HW: Tensor
    names: tuple[str, ...]
    scores_HW: Tensor | None = None

    def __post_init__(self) -> None:
        if self.labels_HW.ndim != 2 or (self.scores_HW is not None and self.scores_HW.shape != self.labels_HW.shape):
            held = None if self.scores_HW is None else tuple(self.scores_HW.shape)
            raise ValueError(
                f"labels {tuple(self.labels_HW.shape)} and scores {held} do not belong together; expected (H, W) both"
            )
        top = int(self.labels_HW.max()) if self.labels_HW.numel() else 0
        if top >= len(self.names):
            raise ValueError(f"label {top} is outside the {len(self.names)} names")

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def classes(self) -> list[int]:
        """Classes that occur, those of most pixels first."""
        counts = self.labels_HW.flatten().bincount(minlength=len(self.names))
        return [index for index in counts.argsort(descending=True, stable=True).tolist() if counts[index]]

    def share(self, index: int) -> float:
        """Part of the pixels that a class has, in [0, 1]."""
        return float((self.labels_HW == index).double().mean())

    def mask(self, index: int) -> Tensor:
        """Pixels (H, W) of a class."""
        return self.labels_HW == index

    def score(self, index: int) -> float:
        """Mean score over the pixels of a class; 1 where nobody says."""
        return 1.0 if self.scores_HW is None else float(self.scores_HW[self.mask(index)].float().mean())
