"""Pixels of a picture as a tower sees them: brought to whole patches, normalised."""

import torch
from PIL import Image
from torch import Tensor

from clipself.ops.patches import nearest_whole


def fit_size(own: tuple[int, int], asked: tuple[int, int] | int | None, *, patch: int) -> tuple[int, int]:
    """Height and width that were asked for.

    Args:
        own: Height and width of the picture.
        asked: Height and width, one number for both, or None for its own rounded to whole patches.
        patch: Side of a patch in pixels.

    Raises:
        ValueError: What was asked is no size.
    """
    if asked is None:
        return nearest_whole(own[0], patch), nearest_whole(own[1], patch)
    sides = (asked, asked) if isinstance(asked, int) else tuple(asked)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"size={asked!r} is no size; pass (height, width) in pixels, or one number for both")
    return sides[0], sides[1]


def normalise(
    rgb: Image.Image, *, size: tuple[int, int], mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """An RGB picture resized (bicubic, antialiased), less the mean and over the deviation of each channel.

    Args:
        rgb: Picture.
        size: Height and width.
        mean: Of pixels in [0, 1].
        std: Of pixels in [0, 1].

    Returns:
        Image (3, H, W).
    """
    height, width = size
    pixels = torch.frombuffer(bytearray(rgb.resize((width, height), resample=3).tobytes()), dtype=torch.uint8)
    scaled = pixels.reshape(height, width, 3).permute(2, 0, 1).float() / 255
    return (scaled - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
