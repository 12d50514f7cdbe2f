"""Pictures cut out at random and resized to a square canvas, grey beside them: how OWL-ViT sees them."""

import math
import random
from dataclasses import dataclass
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from clipself.data.jitter import Framed
from clipself.data.preprocess import Preprocess

TRIES: Final = 100
"""Shapes that are drawn for a cut before the whole picture is taken."""

Region = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomCrop:
    """A part of the picture by area and shape, its longest side to the canvas', the rest grey.

    Source: OWL-ViT (arXiv:2205.06230, appendix A1.3), as released: resized by bilinear interpolation without
    antialiasing, padded with one half ahead of the normalisation.

    Attributes:
        side: Of the canvas, in pixels.
        preprocess: Normalisation.
        area: Range of the part's share of the picture; (1, 1) takes it whole.
        aspect: Range of the part's width divided by its height.
        least_left: Share of a box that must be left by the cut; others are dropped.
        scales: Range of a further factor of the size, at most 1; (1, 1) for none.
        flip: Probability of a mirrored picture.
        grey: Value beside the picture, in [0, 1].
    """

    side: int
    preprocess: Preprocess
    area: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (0.75, 1.33)
    least_left: float = 0.6
    scales: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    grey: float = 0.5

    def train(self, picture: Image.Image, rng: random.Random) -> Framed:
        """One of many views."""
        region = self._region(picture.size, rng)
        ratio = rng.uniform(*self.scales)
        mirrored = bool(self.flip and rng.random() < self.flip)
        return self._frame(picture, region, min(1.0, ratio), mirrored=mirrored)

    def test(self, picture: Image.Image) -> Framed:
        """The whole picture."""
        return self._frame(picture, (0.0, 0.0, *picture.size), 1.0, mirrored=False)

    def pixels(self, framed: Framed) -> Tensor:
        """Normalised (3, side, side)."""
        mean, std = (torch.tensor(part)[:, None, None] for part in (self.preprocess.mean, self.preprocess.std))
        canvas = ((self.grey - mean) / std).expand(3, self.side, self.side).clone()
        canvas[:, : framed.image.height, : framed.image.width] = self.preprocess.normalize(framed.image)
        return canvas

    def _region(self, size: tuple[int, int], rng: random.Random) -> Region:
        """Left, top, width and height of the part, in pixels of the picture."""
        whole: Region = (0.0, 0.0, *size)
        if self.area == (1.0, 1.0):
            return whole
        for _ in range(TRIES):
            area = rng.uniform(*self.area) * size[0] * size[1]
            aspect = rng.uniform(*self.aspect)
            width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
            if width <= size[0] and height <= size[1]:
                return rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - height), width, height
        return whole

    def _frame(self, picture: Image.Image, region: Region, ratio: float, *, mirrored: bool) -> Framed:
        left, top, width, height = region
        scale = self.side * ratio / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        corner = (round(left * scale), round(top * scale))  # whole pixels: boxes move by exactly what the picture does
        left, top = corner[0] / scale, corner[1] / scale
        extent = (left, top, min(picture.width, left + size[0] / scale), min(picture.height, top + size[1] / scale))
        image = picture.transform(size, Image.Transform.EXTENT, extent, Image.Resampling.BILINEAR)
        if mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return Framed(image=image, scale=scale, corner=corner, mirrored=mirrored, least_left=self.least_left)
