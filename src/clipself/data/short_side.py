"""Pictures resized by their short side, each on a canvas of its own shape, as DETR and Faster R-CNN see them."""

import random
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from clipself.data.jitter import Framed
from clipself.data.preprocess import Preprocess

Region = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShortSide:
    """The short side drawn from a list, the long one limited; with `crop`, half of the views are cut out first.

    Source: DETR (arXiv:2005.12872), appendix A.4; the sides are Detectron2's.

    Attributes:
        side: Short side at test, in pixels.
        longest: Limit of the long side, in pixels; the short one gives way.
        preprocess: Normalisation; a batch is padded with zeros to its largest picture, after it.
        sides: Short sides of training; the one of test if empty.
        flip: Probability of a mirrored picture in training.
        crop: Probability of a view that is cut out of a picture of a `crop_sides` short side, then resized as others.
        crop_sides: Short sides ahead of the cut.
        crop_range: Least and largest side of the cut; small pictures are cut less.
    """

    side: int
    longest: int
    preprocess: Preprocess
    sides: tuple[int, ...] = ()
    flip: float = 0.0
    crop: float = 0.0
    crop_sides: tuple[int, ...] = (400, 500, 600)
    crop_range: tuple[int, int] = (384, 600)

    def train(self, picture: Image.Image, rng: random.Random) -> Framed:
        """One of many views."""
        region: Region = (0.0, 0.0, *picture.size)
        if self.crop and rng.random() < self.crop:
            region = self._cut_out(picture.size, rng)
        side = rng.choice(self.sides or (self.side,))
        mirrored = bool(self.flip and rng.random() < self.flip)
        return self._frame(picture, region, side, mirrored=mirrored)

    def test(self, picture: Image.Image) -> Framed:
        """The whole picture."""
        return self._frame(picture, (0.0, 0.0, *picture.size), self.side, mirrored=False)

    def pixels(self, framed: Framed) -> Tensor:
        """Normalised (3, H, W) of the picture's own size."""
        return self.preprocess.normalize(framed.image)

    def _cut_out(self, size: tuple[int, int], rng: random.Random) -> Region:
        """A part of the picture, left, top, width and height in its own pixels."""
        scale = rng.choice(self.crop_sides) / min(size)
        lengths, starts = [], []
        for whole in (int(size[0] * scale), int(size[1] * scale)):
            least, most = min(self.crop_range[0], whole), min(self.crop_range[1], whole)
            lengths.append(rng.randint(least, most))
            starts.append(rng.randint(0, whole - lengths[-1]))
        left, top, width, height = (length / scale for length in (*starts, *lengths))
        return left, top, min(width, size[0] - left), min(height, size[1] - top)

    def _frame(self, picture: Image.Image, region: Region, side: int, *, mirrored: bool) -> Framed:
        left, top, width, height = region
        target, scale = resized(width, height, side=side, longest=self.longest)
        # Whole pixels of the result: boxes are moved by exactly what the picture is.
        corner = (round(left * scale), round(top * scale))
        left, top = corner[0] / scale, corner[1] / scale
        box = (left, top, min(left + width, picture.width), min(top + height, picture.height))
        image = picture.resize(target, Image.Resampling.BILINEAR, box=box)
        if mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return Framed(image=image, scale=scale, corner=corner, mirrored=mirrored)


def resized(width: float, height: float, *, side: int, longest: int) -> tuple[tuple[int, int], float]:
    """Width and height with the short side at `side`, or with the long one at its limit, and the factor to them.

    The sizes are rounded as DETR does.
    """
    short, long = min(width, height), max(width, height)
    limited = long / short * side > longest
    if limited:
        side = max(1, round(longest * short / long))
    other = max(1, min(longest, int(side * long / short + 1e-6)))
    return (side, other) if width <= height else (other, side), other / long if limited else side / short
