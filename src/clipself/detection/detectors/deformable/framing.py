"""How a deformable DETR wants its pictures."""

from clipself.backbones.dense_clip import DenseCLIP
from clipself.data.jitter import Framing, SquareCanvas
from clipself.data.short_side import ShortSide
from clipself.detection.detectors.deformable.settings import DeformableSettings
from clipself.detection.detectors.two_stage.pixels import pixels_of


def framing_of(settings: DeformableSettings, clip: DenseCLIP, *, scales: tuple[float, float], flip: float) -> Framing:
    """Pictures by their short side, or on a square canvas where the settings give one."""
    pixels = pixels_of(settings, clip)
    if settings.image_size is not None:
        return SquareCanvas(side=settings.image_size, preprocess=pixels, scales=scales, flip=flip)
    return ShortSide(
        side=settings.short_side, longest=settings.longest_side, preprocess=pixels, sides=settings.train_sides,
        flip=flip, crop=settings.crop,
    )  # fmt: skip
