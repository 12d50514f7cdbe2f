"""Pictures scaled at random and cut to a square at most: what Detic's OV-LVIS detectors train on."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from clipself.data.jitter import Framed
from clipself.data.preprocess import Preprocess


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleCut:
    """Numbers of one scaling and cut, heights ahead of widths.

    Attributes:
        scaled: Size of the whole picture after scaling.
        offset: Top and left of the cut.
        cut: Its size.
        scale: Factor from original pixels.
    """

    scaled: tuple[int, int]
    offset: tuple[int, int]
    cut: tuple[int, int]
    scale: float


def scale_cut(size: tuple[int, int], *, side: int, jitter: float, shares: tuple[float, float]) -> ScaleCut:
    """Longest side to a share of the square's, then a cut of at most the square; small results are not padded.

    Source: EfficientDet (arXiv:1911.09070), as Detic's released code has it, which rounds down.

    Args:
        size: Height and width of the picture.
        side: Of the square, in pixels.
        jitter: Drawn share of the side.
        shares: Drawn places of the cut, down and right, in [0, 1).
    """
    scale = min(jitter * side / size[0], jitter * side / size[1])
    scaled = (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))
    top, left = (int(max(0.0, float(length - side)) * share) for length, share in zip(scaled, shares, strict=True))
    cut = (min(side, scaled[0] - top), min(side, scaled[1] - left))
    return ScaleCut(scaled=scaled, offset=(top, left), cut=cut, scale=scale)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleCrop:
    """A framing of `scale_cut` for training, and of another framing for prediction.

    Attributes:
        side: Of the square, in pixels.
        preprocess: Normalisation.
        scales: Range of the jitter.
        flip: Probability of a mirrored picture.
        whole: How the whole picture is framed for prediction.
    """

    side: int
    preprocess: Preprocess
    scales: tuple[float, float] = (0.1, 2.0)
    flip: float = 0.5
    whole: Callable[[Image.Image], Framed]

    def train(self, picture: Image.Image, rng: random.Random) -> Framed:
        """One of many views."""
        jitter, shares = rng.uniform(*self.scales), (rng.random(), rng.random())
        numbers = scale_cut((picture.height, picture.width), side=self.side, jitter=jitter, shares=shares)
        top, left = numbers.offset
        resized = picture.resize((numbers.scaled[1], numbers.scaled[0]), Image.Resampling.BILINEAR)
        cut = resized.crop((left, top, left + numbers.cut[1], top + numbers.cut[0]))
        mirrored = bool(self.flip) and rng.random() < self.flip
        if mirrored:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return Framed(image=cut, scale=numbers.scale, corner=(left, top), mirrored=mirrored)

    def test(self, picture: Image.Image) -> Framed:
        """The whole picture."""
        return self.whole(picture)

    def pixels(self, framed: Framed) -> Tensor:
        """Normalised (3, height, width) of the cut."""
        pixels_3HW: Tensor = self.preprocess.normalize(framed.image)
        return pixels_3HW
