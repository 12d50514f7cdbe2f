"""Normalised pixels and plain ones."""

from collections.abc import Sequence
from typing import Final

from torch import Tensor

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""What nearly all vision models but CLIP were trained with, for RGB in [0, 1]."""


def plain_pixels(images_B3HW: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalised images (..., 3, H, W) as RGB again: in [0, 1] where they were, padding of zeros is the mean."""
    mean_311, std_311 = (images_B3HW.new_tensor(values)[:, None, None] for values in (mean, std))
    return images_B3HW * std_311 + mean_311
