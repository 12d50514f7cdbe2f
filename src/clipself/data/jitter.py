"""Pictures with boxes onto a square canvas: as they are, or by large-scale jitter."""

import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SMALLEST_SIDE = 0.01
"""Boxes with a shorter side, in pixels, are dropped after cropping."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Framed:
    """A picture as it lies in the upper left corner of the canvas.

    Attributes:
        image: RGB picture, at most the canvas' size.
        scale: Factor from original pixels to its own.
        corner: Left and top of what was cut out, in its own pixels.
        mirrored: Whether left and right are exchanged.
    """

    image: Image.Image
    scale: float
    corner: tuple[int, int]
    mirrored: bool

    def boxes(self, boxes: Tensor) -> Tensor:
        """Original boxes (R, 4) -> boxes on the canvas, clipped; those outside lose their area."""
        shift = boxes.new_tensor([*self.corner, *self.corner])
        moved = boxes * self.scale - shift
        limit = moved.new_tensor([self.image.width, self.image.height] * 2)
        moved = moved.clamp(min=0).minimum(limit)
        if not self.mirrored:
            return moved
        return torch.stack([limit[0] - moved[:, 2], moved[:, 1], limit[0] - moved[:, 0], moved[:, 3]], dim=-1)

    def mask(self, mask_HW: Tensor, *, side: int) -> Tensor:
        """Original boolean mask -> boolean mask on the canvas (side, side)."""
        picture = Image.fromarray(mask_HW.numpy().astype(np.uint8) * 255)
        cut = _cut(picture, self.image.size, self.scale, self.corner, Image.Resampling.NEAREST)
        if self.mirrored:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        canvas = torch.zeros(side, side, dtype=torch.bool)
        canvas[: cut.height, : cut.width] = torch.from_numpy(np.array(cut)) > 127
        return canvas


def letterbox(image: Image.Image, *, side: int) -> Framed:
    """Longest side to `side`, bilinear."""
    return _frame(image, side=side, ratio=1.0, rng=None, flip=0.0)


def jitter(image: Image.Image, *, side: int, scales: tuple[float, float], flip: float, rng: random.Random) -> Framed:
    """Large-scale jitter: longest side to a random share of `side`, random cut of at most the canvas, random mirror.

    Source: Simple Copy-Paste (arXiv:2012.07177), with F-ViT's scales 0.1 to 2.

    Args:
        image: RGB picture.
        side: Of the canvas, in pixels.
        scales: Least and largest share.
        flip: Probability of a mirrored picture.
        rng: Source of the draws.
    """
    return _frame(image, side=side, ratio=rng.uniform(*scales), rng=rng, flip=flip)


def _frame(image: Image.Image, *, side: int, ratio: float, rng: random.Random | None, flip: float) -> Framed:
    scale = side * ratio / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    left = rng.randint(0, max(0, width - side)) if rng else 0
    top = rng.randint(0, max(0, height - side)) if rng else 0
    cut = _cut(image, (min(side, width), min(side, height)), scale, (left, top), Image.Resampling.BILINEAR)
    mirrored = bool(rng is not None and flip and rng.random() < flip)
    if mirrored:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return Framed(image=cut, scale=scale, corner=(left, top), mirrored=mirrored)


def _cut(
    image: Image.Image, size: tuple[int, int], scale: float, corner: tuple[int, int], resample: Image.Resampling
) -> Image.Image:
    """Scales and cuts at once: only the pixels that stay are resampled."""
    left, top = corner[0] / scale, corner[1] / scale
    right, bottom = min(image.width, left + size[0] / scale), min(image.height, top + size[1] / scale)
    right, bottom = max(right, left + 1e-3), max(bottom, top + 1e-3)
    return image.resize(
        size, resample, box=(min(left, image.width - 1e-3), min(top, image.height - 1e-3), right, bottom)
    )
