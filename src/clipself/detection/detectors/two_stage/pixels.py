"""How a detector's pixels are normalised."""

from typing import Final

from clipself.backbones.dense_clip import DenseCLIP
from clipself.data.preprocess import Preprocess
from clipself.detection.detectors.two_stage.settings import TwoStageSettings

IMAGENET: Final = Preprocess(
    mean=(123.675 / 255, 116.28 / 255, 103.53 / 255), std=(58.395 / 255, 57.12 / 255, 57.375 / 255)
)
"""What the published detectors normalise with, although their backbone is a CLIP."""


def pixels_of(settings: TwoStageSettings, clip: DenseCLIP) -> Preprocess:
    """The normalisation that a detector wants."""
    return IMAGENET if settings.pixels == "imagenet" else Preprocess(mean=clip.image_mean, std=clip.image_std)
