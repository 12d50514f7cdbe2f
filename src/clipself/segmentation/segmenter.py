"""What a segmenter is: a picture in, a class for every pixel out."""

from typing import Final, Protocol

from PIL import Image
from torch import Tensor

from clipself.data.semantic_training import shortest_size

LONGEST: Final = 2560
"""Longest side that a picture is brought to, in pixels (the published value)."""
SIZE_DIVISOR: Final = 32
"""Sides of padded images are multiples of this."""


class Segmenter(Protocol):
    """Anything that names every pixel of a picture."""

    names: tuple[str, ...]

    def label(self, image: Image.Image) -> Tensor:
        """Index of each pixel's class (H, W), at the picture's own size."""


def resize_shortest(image: Image.Image, shortest: int) -> Image.Image:
    """Brings the shortest side to a length; bilinear, as the published evaluation does."""
    height, width = shortest_size((image.height, image.width), shortest, longest=LONGEST)
    return image.resize((width, height), Image.Resampling.BILINEAR)
