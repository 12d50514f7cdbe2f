"""Pixels of a picture as a tower sees them: brought to whole patches, normalised."""

from collections.abc import Sequence
from numbers import Integral
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from clipself.backbones.trunk import Trunk
from clipself.ops.patches import nearest_whole
from clipself.ops.pixels import standardised_planes

LONGEST_SIDE: Final = 2**14
"""Of what a tower is shown, in pixels."""

BRIGHTEST: Final = 24.0
"""Well beyond any pixel that is normalised as a release asks for, which lie within 3; bytes as floats are not."""

RANGES: Final = 6.0
"""How many times the range of a normalised pixel is beyond any, for models of another range."""


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
    sides = tuple(asked) if isinstance(asked, Sequence) else (asked, asked)
    whole = [side for side in sides if isinstance(side, Integral) and not isinstance(side, bool)]
    if len(sides) != 2 or len(whole) != 2 or not all(0 < side <= LONGEST_SIDE for side in whole):
        raise ValueError(
            f"size={asked!r:.60} is no size; pass (height, width) in pixels, or one number for both, up to "
            f"{LONGEST_SIDE}"
        )
    return int(whole[0]), int(whole[1])


def as_shown(images_B3HW: Tensor, trunk: Trunk, *, std: Sequence[float]) -> Tensor:
    """Images in the dtype of a tower's weights, checked: embeddings of what is none look like any others.

    On a GPU no pixel is looked at where gradients are asked for: a look would make every step wait.

    Args:
        images_B3HW: Images.
        trunk: That will see them.
        std: By which its pixels in [0, 1] are divided.

    Raises:
        ValueError: They do not fit the patches, a pixel is not finite, or is too bright to be normalised.
    """
    trunk.grid_of(images_B3HW)
    traced = (
        torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None or type(images_B3HW) is not Tensor
    )
    waits = images_B3HW.device.type != "cpu" and torch.is_grad_enabled()
    if not (traced or waits) and images_B3HW.numel():
        low, high = (float(value) for value in torch.aminmax(images_B3HW.detach()))
        if not max(-low, high) <= max(BRIGHTEST, RANGES / min(std)):
            raise ValueError(
                f"images hold pixels of {low:g} to {high:g}, expected normalised ones, about -3 to 3; "
                "clip.preprocess(picture)[None] makes them"
            )
    return images_B3HW.to(next(trunk.tower.parameters()).dtype)


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
    return standardised_planes(rgb.resize((width, height), resample=3), mean=mean, std=std)
