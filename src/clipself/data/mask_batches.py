"""Training samples for mask classification: pictures by large-scale jitter, segments as masks."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from clipself.data.jitter import jitter
from clipself.data.panoptic import PanopticImages, mask_targets
from clipself.data.preprocess import Preprocess
from clipself.structures import MaskTargets


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskSample:
    """One picture on its canvas.

    Attributes:
        image_3HW: Normalised, black to the right and below.
        targets: Its segments there.
        name: Its file.
    """

    image_3HW: Tensor
    targets: MaskTargets
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskBatch:
    """Some of them.

    Attributes:
        images_B3HW: Normalised images.
        targets: For each image its segments.
        names: Files.
    """

    images_B3HW: Tensor
    targets: tuple[MaskTargets, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> "MaskBatch":
        """The same batch on another device."""
        return MaskBatch(
            images_B3HW=self.images_B3HW.to(device, non_blocking=True),
            targets=tuple(target.to(device) for target in self.targets),
            names=self.names,
        )


class MaskDataset(Dataset[MaskSample]):
    """Random views of labelled pictures; the same key always gives the same view.

    Args:
        source: Pictures with panoptic labels.
        preprocess: Normalisation of the model.
        side: Of the square canvas, in pixels.
        scales: Bounds of the longest side relative to it.
        flip: Probability of a mirrored picture.
        seed: Of all draws.
    """

    def __init__(
        self,
        source: PanopticImages,
        *,
        preprocess: Preprocess,
        side: int,
        scales: tuple[float, float],
        flip: float,
        seed: int,
    ) -> None:
        self.source, self.preprocess, self.side = source, preprocess, side
        self.scales, self.flip, self.seed = scales, flip, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> MaskSample:
        epoch, index = key
        rng = random.Random(f"{self.seed}/{epoch}/{index}")
        truth = self.source.read(index)
        framed = jitter(truth.image, side=self.side, scales=self.scales, flip=self.flip, rng=rng)
        whole = mask_targets(truth)
        masks = [framed.mask(mask_HW, canvas=(self.side, self.side)) for mask_HW in whole.masks_NHW]
        kept = [place for place, mask_HW in enumerate(masks) if mask_HW.any()]
        canvas = self.preprocess.normalize(framed.image.crop((0, 0, self.side, self.side)))
        return MaskSample(
            image_3HW=canvas,
            targets=MaskTargets(
                labels_N=whole.labels_N[kept],
                masks_NHW=torch.stack([masks[place] for place in kept])
                if kept
                else torch.zeros(0, self.side, self.side, dtype=torch.bool),
            ),
            name=truth.name,
        )


def collate_masks(samples: Sequence[MaskSample]) -> MaskBatch:
    """Stacks the images; every picture keeps its own segments."""
    return MaskBatch(
        images_B3HW=torch.stack([sample.image_3HW for sample in samples]),
        targets=tuple(sample.targets for sample in samples),
        names=tuple(sample.name for sample in samples),
    )
