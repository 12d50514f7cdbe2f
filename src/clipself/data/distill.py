"""Samples for self-distillation: an image, regions of it, and a crop for each region; all made in the worker."""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from clipself.data.images import read_image
from clipself.data.preprocess import Preprocess, boxes_on_student
from clipself.data.regions import MAX_AREA, MIN_AREA, ImageRegions, choose_proposals, draw_boxes, draw_patches
from clipself.data.sources import ImageSource
from clipself.structures import DistillBatch

log = logging.getLogger(__name__)

DRAWN: Final[Mapping[str, Callable[..., ImageRegions]]] = {"patches": draw_patches, "random-boxes": draw_boxes}
"""Regions that need no annotation -> what draws them."""
REGIONS: Final = (*DRAWN, "proposals")


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillSample:
    """One image ready for a batch; the fields are those of `DistillBatch` for one image."""

    image_3HW: Tensor
    boxes_norm: Tensor
    crops_R3hw: Tensor
    name: str
    mirrored: bool = False


def collate_distill(samples: Sequence[DistillSample]) -> DistillBatch:
    """Stacks the images and joins the regions, image after image."""
    return DistillBatch(
        images_B3HW=torch.stack([sample.image_3HW for sample in samples]),
        boxes_norm=tuple(sample.boxes_norm for sample in samples),
        crops_R3hw=torch.cat([sample.crops_R3hw for sample in samples]),
        names=tuple(sample.name for sample in samples),
        mirrored=tuple(sample.mirrored for sample in samples),
    )


class DistillDataset(Dataset[DistillSample]):
    """Images of a source with regions drawn anew each epoch, or in turns of a few draws.

    Every draw follows from (seed, epoch, index), so neither workers nor processes change it.

    Args:
        source: Where images and proposals come from.
        preprocess: Normalisation of the model.
        student_size: Side of the square student input, in pixels.
        crop_size: Side of the teacher crops, in pixels.
        regions: "patches" (random grids), "random-boxes" or "proposals" (the source's boxes).
        max_split: Most rows or columns of a grid; random boxes are no smaller than a cell of that.
        max_regions: Most regions of an image.
        enlarge: Sides of the teacher's crop relative to the region; None is 1.5 for proposals, else 1.
        min_area: Smallest proposal in squared original pixels.
        max_area: Largest proposal.
        flip: Probability of a mirrored image.
        views: Draws of each image, which the epochs take in turn; None draws anew in each.
        seed: Seed of every draw.
        skip_unreadable: Whether a damaged file gives its place to the next readable one; else it is an error.
    """

    collate = staticmethod(collate_distill)

    def __init__(
        self,
        source: ImageSource,
        *,
        preprocess: Preprocess,
        student_size: int,
        crop_size: int,
        regions: str = "patches",
        max_split: int = 6,
        max_regions: int = 20,
        enlarge: float | None = None,
        min_area: float = MIN_AREA,
        max_area: float = MAX_AREA,
        flip: float = 0.0,
        views: int | None = None,
        seed: int = 0,
        skip_unreadable: bool = True,
    ) -> None:
        if regions not in REGIONS:
            raise ValueError(f"unknown regions {regions!r}, expected one of {list(REGIONS)}")
        self.source, self.preprocess = source, preprocess
        self.student_size, self.crop_size = student_size, crop_size
        self.regions, self.max_split, self.max_regions = regions, max_split, max_regions
        self.enlarge = enlarge if enlarge is not None else (1.5 if regions == "proposals" else 1.0)
        self.min_area, self.max_area = min_area, max_area
        # Unreadable images are told once, not in every epoch nor by every worker.
        self._told = torch.zeros(len(source), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]
        self.flip, self.views, self.seed, self.skip_unreadable = flip, views, seed, skip_unreadable

    def __len__(self) -> int:
        return len(self.source)

    @property
    def unreadable(self) -> int:
        """How many images had to give their place to the next so far."""
        return int(self._told.sum())

    def __getitem__(self, key: int | tuple[int, int]) -> DistillSample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = random.Random(f"{self.seed}/{epoch if self.views is None else epoch % self.views}/{index}")
        chosen, image = self._read(index)
        size = (image.height, image.width)
        regions = self._regions(chosen, size, rng)
        mirrored = bool(self.flip) and rng.random() < self.flip
        if mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            regions = regions.mirrored(size[1])
        student, scale = self.preprocess.student_image(image, self.student_size)
        return DistillSample(
            image_3HW=student,
            boxes_norm=boxes_on_student(regions.boxes, scale=scale, side=self.student_size),
            crops_R3hw=self.preprocess.teacher_crops(image, regions.crop_boxes, self.crop_size),
            name=str(self.source.paths[chosen]),
            mirrored=mirrored,
        )

    def _regions(self, index: int, size: tuple[int, int], rng: random.Random) -> ImageRegions:
        if self.regions in DRAWN:
            draw = DRAWN[self.regions]
            return draw(size, rng, max_split=self.max_split, max_regions=self.max_regions, enlarge=self.enlarge)
        return choose_proposals(
            self.source.boxes_xywh(index, size=size),
            size=size,
            rng=rng,
            max_regions=self.max_regions,
            min_area=self.min_area,
            max_area=self.max_area,
            enlarge=self.enlarge,
        )

    def _read(self, index: int) -> tuple[int, Image.Image]:
        """The image, or the next readable one, so that a damaged file costs neither the run nor its repeatability."""
        for offset in range(len(self.source)):
            chosen = (index + offset) % len(self.source)
            try:
                return chosen, read_image(self.source.paths[chosen])
            except (ValueError, FileNotFoundError) as error:
                if not self.skip_unreadable:
                    raise
                if not self._told[chosen]:
                    self._told[chosen] = True
                    log.warning("%s; the next image takes its place", error)
        raise ValueError(f"none of the {len(self.source)} images can be read; the first is {self.source.paths[0]}")
