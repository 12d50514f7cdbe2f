"""A mask generator in one file: regions of one colour, whose class is that colour's name."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipself.panoptic.generators.mask_set import MaskSet

COLOURS = ("red", "green", "blue")


class ColourMasks:
    """A mask for each strong colour of a picture; knows names that begin with one of them.

    Args:
        source: What follows "toy:"; a number, the least share of the picture that a mask has.
    """

    def __init__(self, source: str) -> None:
        self.least = float(source)
        self.trained_names = COLOURS

    def __call__(self, picture: Image.Image, *, file: str, names: Sequence[str]) -> MaskSet:
        """Masks at half the picture's size."""
        small = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.NEAREST)
        strongest = torch.from_numpy(np.asarray(small).argmax(-1))
        found = [(one, strongest == one) for one in range(len(COLOURS))]
        kept = [(one, mask) for one, mask in found if mask.float().mean() > self.least]
        masks = torch.stack([torch.where(mask, 9.0, -9.0) for _, mask in kept])
        return score(masks, [one for one, _ in kept], names)


def score(masks_QYX: Tensor, colours: Sequence[int], names: Sequence[str]) -> MaskSet:
    """Which names begin with the colours of masks."""
    logits = torch.tensor([[9.0 * name.startswith(COLOURS[one]) for name in names] for one in colours])
    return MaskSet(
        masks_QYX=masks_QYX, void_Q=torch.zeros(len(colours)), logits_QK=logits,
        rescore=partial(score, masks_QYX, colours),
    )  # fmt: skip
