"""Crops of labelled pictures for training: scaled, cut, coloured and mirrored by chance that can be repeated."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import Dataset

from clipself.data.semantic import SemanticImages, tell_absent_classes
from clipself.structures import SemanticBatch

PAD_GREY: Final = 128
"""Value of pixels beside a picture that is smaller than its crop (the published value)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How a picture becomes a crop.

    Attributes:
        crop: Side of the square crop, in pixels.
        shortest: Shortest sides that a picture may be brought to; one is drawn.
        longest: Longest side after that.
        flip: Probability of a mirrored picture.
        colour: Whether brightness, contrast, saturation and hue are changed, as SSD does.
    """

    crop: int
    shortest: tuple[int, ...]
    longest: int = 2560
    flip: float = 0.5
    colour: bool = True


class SemanticCrops(Dataset[SemanticBatch]):
    """A training set; item (epoch, index) is always the same for the same seed.

    Args:
        data: Labelled pictures.
        augmentation: How they are cut.
        seed: Of all chance.
    """

    def __init__(self, data: SemanticImages, augmentation: Augmentation, *, seed: int = 0) -> None:
        tell_absent_classes(data)
        self.data, self.augmentation, self.seed = data, augmentation, seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, item: tuple[int, int]) -> SemanticBatch:
        epoch, index = item
        rng = random.Random(f"{self.seed}/{epoch}/{index}")
        held, how = self.data.read(index), self.augmentation
        labels = Image.fromarray(held.labels_HW.numpy().astype(np.int32))
        size = shortest_size((held.image.height, held.image.width), rng.choice(how.shortest), longest=how.longest)
        image = held.image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        labels = labels.resize((size[1], size[0]), Image.Resampling.NEAREST)
        top, left = (rng.randint(0, max(0, side - how.crop)) for side in size)
        box = (left, top, min(left + how.crop, size[1]), min(top + how.crop, size[0]))
        image, labels = image.crop(box), labels.crop(box)
        if how.colour:
            image = change_colours(image, rng)
        if rng.random() < how.flip:
            image, labels = (part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for part in (image, labels))
        pixels = np.full((how.crop, how.crop, 3), PAD_GREY, dtype=np.uint8)
        truth = np.full((how.crop, how.crop), self.data.ignore_label, dtype=np.int64)
        pixels[: image.height, : image.width] = np.asarray(image)
        truth[: image.height, : image.width] = np.asarray(labels)
        return SemanticBatch(
            pixels_B3HW=torch.from_numpy(pixels).permute(2, 0, 1)[None].float(),
            labels_BHW=torch.from_numpy(truth)[None],
            names=(self.data.image_names[index],),
        )


def collate_semantic(samples: Sequence[SemanticBatch]) -> SemanticBatch:
    """Joins crops of one size."""
    return SemanticBatch(
        pixels_B3HW=torch.cat([sample.pixels_B3HW for sample in samples]),
        labels_BHW=torch.cat([sample.labels_BHW for sample in samples]),
        names=tuple(name for sample in samples for name in sample.names),
    )


def shortest_size(size: tuple[int, int], shortest: int, *, longest: int) -> tuple[int, int]:
    """Height and width with the shortest side brought to a length, the longest kept below another."""
    scale = min(shortest / min(size), longest / max(size))
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def to_pixels(image: Image.Image) -> Tensor:
    """RGB picture -> (3, H, W) in 0..255."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float()


def change_colours(image: Image.Image, rng: random.Random) -> Image.Image:
    """Brightness, contrast, saturation and hue, each with probability 1/2.

    Source: SSD (arXiv:1512.02325), by its ranges; contrast and saturation turn about the picture's own mean and grey.
    """
    if rng.random() < 0.5:
        shift = rng.uniform(-32, 32)
        image = image.point(lambda value: int(min(255, max(0, value + shift))))
    for enhance in (ImageEnhance.Contrast, ImageEnhance.Color):
        if rng.random() < 0.5:
            image = enhance(image).enhance(rng.uniform(0.5, 1.5))
    if rng.random() < 0.5:
        hue, saturation, value = image.convert("HSV").split()
        turn = rng.randint(-25, 25)  # of 256, which is 18 of 180
        hue = hue.point(lambda angle: (angle + turn) % 256)
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    return image


def keep_classes(labels_BHW: Tensor, classes: Sequence[int], *, ignore_label: int) -> Tensor:
    """Labels renumbered to the places of some classes; all others are ignored."""
    rank = torch.full((max(ignore_label, *classes) + 1,), ignore_label, device=labels_BHW.device)
    rank[torch.as_tensor(list(classes), device=labels_BHW.device)] = torch.arange(
        len(classes), device=labels_BHW.device
    )
    return rank[labels_BHW]
