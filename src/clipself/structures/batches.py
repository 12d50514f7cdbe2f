"""What trainings and evaluations are fed with; each checks its own shapes."""

from dataclasses import dataclass, replace

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
        mirrored: Whether each image was; none of them if empty.
    """

    images_B3HW: Tensor
    boxes_norm: tuple[Tensor, ...]
    crops_R3hw: Tensor
    names: tuple[str, ...]
    mirrored: tuple[bool, ...] = ()

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
        image_labels: For each image the classes that it holds somewhere (n,), where nobody has boxed them; None in a
            batch whose boxes are known. A batch is of one kind.
        captions: For each such image one of its captions, where it has some.
        negatives: For each image classes that were looked for and not found (n,); empty where the data does not say.
    """

    images_B3HW: Tensor
    sizes: tuple[tuple[int, int], ...]
    boxes: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    masks: tuple[Tensor, ...] | None
    names: tuple[str, ...]
    rows: tuple[int, ...] = ()
    image_labels: tuple[Tensor, ...] | None = None
    captions: tuple[str, ...] | None = None
    negatives: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        images = len(self.images_B3HW)
        if self.image_labels is not None and len(self.image_labels) != images:
            raise ValueError(f"{images} images, but {len(self.image_labels)} sets of image labels; each needs its own")
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
            image_labels=None if self.image_labels is None else tuple(held.to(device) for held in self.image_labels),
        )

    def apart(self) -> "list[DetectionBatch]":
        """Its pictures as batches of one."""
        ones = [slice(place, place + 1) for place in range(len(self))]
        return [
            replace(
                self, images_B3HW=self.images_B3HW[one], sizes=self.sizes[one], boxes=self.boxes[one],
                labels=self.labels[one], masks=None if self.masks is None else self.masks[one], names=self.names[one],
                rows=self.rows[one], negatives=self.negatives[one],
                image_labels=None if self.image_labels is None else self.image_labels[one],
                captions=None if self.captions is None else self.captions[one],
            )
            for one in ones
        ]  # fmt: skip

    def pin_memory(self) -> "DetectionBatch":
        """The same batch with its images in page-locked memory, for loaders that feed an accelerator."""
        return replace(self, images_B3HW=self.images_B3HW.pin_memory())


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
class CaptionBatch:
    """Pictures with a text each, for one step of contrastive pre-training.

    Attributes:
        images_B3HW: Normalised pictures.
        tokens_BL: Token ids of the texts.
        names: Where each pair came from; what is drawn for it at random follows from its name.
    """

    images_B3HW: Tensor
    tokens_BL: Tensor
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.images_B3HW) == len(self.tokens_BL) == len(self.names):
            raise ValueError(
                f"{len(self.images_B3HW)} pictures, {len(self.tokens_BL)} texts and {len(self.names)} names do not "
                "belong together; there is one text a picture"
            )

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> "CaptionBatch":
        """The same batch on another device."""
        return replace(
            self,
            images_B3HW=self.images_B3HW.to(device, non_blocking=True),
            tokens_BL=self.tokens_BL.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "CaptionBatch":
        """The same batch in page-locked memory, for loaders that feed an accelerator."""
        return replace(self, images_B3HW=self.images_B3HW.pin_memory(), tokens_BL=self.tokens_BL.pin_memory())
