"""Pictures with boxes onto a canvas: as they are, or by large-scale jitter."""

import random
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipself.data.preprocess import Preprocess

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
        least_left: Share of a box that must be on the picture.
    """

    image: Image.Image
    scale: float
    corner: tuple[int, int]
    mirrored: bool
    least_left: float = 0.0

    def boxes(self, boxes: Tensor) -> Tensor:
        """Original boxes (R, 4) -> boxes on the canvas, clipped; what is too little inside has no area."""
        shift = boxes.new_tensor([*self.corner, *self.corner])
        whole = boxes * self.scale - shift
        limit = whole.new_tensor([self.image.width, self.image.height] * 2)
        moved = whole.clamp(min=0).minimum(limit)
        lost = _areas(moved) < self.least_left * _areas(whole)
        moved[lost, 2:] = moved[lost, :2]
        if not self.mirrored:
            return moved
        return torch.stack([limit[0] - moved[:, 2], moved[:, 1], limit[0] - moved[:, 0], moved[:, 3]], dim=-1)

    def mask(self, mask_HW: Tensor, *, canvas: tuple[int, int]) -> Tensor:
        """Original boolean mask -> boolean mask on the canvas, whose height and width are given."""
        picture = Image.fromarray(mask_HW.numpy().astype(np.uint8) * 255)
        cut = _cut(picture, self.image.size, self.scale, self.corner, Image.Resampling.NEAREST)
        if self.mirrored:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        placed = torch.zeros(*canvas, dtype=torch.bool)
        placed[: cut.height, : cut.width] = torch.from_numpy(np.array(cut)) > 127
        return placed


class Framing(Protocol):
    """How a detector wants its pictures: resized and cut for training or for prediction, then as padded pixels."""

    def train(self, picture: Image.Image, rng: random.Random) -> Framed:
        """One of many views."""

    def test(self, picture: Image.Image) -> Framed:
        """The whole picture."""

    def pixels(self, framed: Framed) -> Tensor:
        """Normalised (3, H, W) with the picture in the upper left corner; a batch is padded to its largest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SquareCanvas:
    """Pictures on a square canvas, zero right and below of them.

    Attributes:
        side: Of the canvas, in pixels.
        preprocess: Normalisation; padding is zero after it, as the published detectors have it.
        scales: Range of the jitter of training; (1, 1) keeps the longest side at the canvas'.
        flip: Probability of a mirrored picture.
    """

    side: int
    preprocess: Preprocess
    scales: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scales[0] <= self.scales[1]:
            raise ValueError(f"scales={self.scales} must ascend and be above 0; (1, 1) turns the jitter off")

    def train(self, picture: Image.Image, rng: random.Random) -> Framed:
        """By large-scale jitter, or as it is where there is none."""
        if self.scales == (1.0, 1.0) and not self.flip:
            return self.test(picture)
        return jitter(picture, side=self.side, scales=self.scales, flip=self.flip, rng=rng)

    def test(self, picture: Image.Image) -> Framed:
        """Longest side to the canvas'."""
        return letterbox(picture, side=self.side)

    def pixels(self, framed: Framed) -> Tensor:
        """Normalised (3, side, side)."""
        canvas = torch.zeros(3, self.side, self.side)
        canvas[:, : framed.image.height, : framed.image.width] = self.preprocess.normalize(framed.image)
        return canvas


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1)


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
