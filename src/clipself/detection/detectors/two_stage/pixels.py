"""How a detector's pixels are normalised."""

from typing import Final, Protocol

from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.data.preprocess import Preprocess
from clipself.ops.pixels import plain_pixels

IMAGENET: Final = Preprocess(
    mean=(123.675 / 255, 116.28 / 255, 103.53 / 255), std=(58.395 / 255, 57.12 / 255, 57.375 / 255)
)
"""What the published detectors normalise with, although their backbone is a CLIP."""


class HasPixels(Protocol):
    """Settings that name a normalisation."""

    @property
    def pixels(self) -> str:
        """Imagenet or clip."""


def pixels_of(settings: HasPixels, clip: DenseCLIP) -> Preprocess:
    """The normalisation that a detector wants."""
    return IMAGENET if settings.pixels == "imagenet" else Preprocess(mean=clip.image_mean, std=clip.image_std)


def change_pixels(images_B3HW: Tensor, old: Preprocess, new: Preprocess) -> Tensor:
    """Normalised images in another normalisation; padding that was zero is so no more."""
    if old == new:
        return images_B3HW
    mean, std = (images_B3HW.new_tensor(values)[:, None, None] for values in (new.mean, new.std))
    return (plain_pixels(images_B3HW, mean=old.mean, std=old.std) - mean) / std
