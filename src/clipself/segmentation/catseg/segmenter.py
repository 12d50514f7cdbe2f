"""A trained CAT-Seg as a segmenter: a picture in, a class for every pixel out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from PIL import Image
from torch import Tensor

from clipself.data.semantic_training import to_pixels
from clipself.segmentation.catseg.inference import CatSegInference, PictureReading, read_picture, score_reading
from clipself.segmentation.catseg.model import CatSeg
from clipself.segmentation.segmenter import Inference, ReadingSegmenter, resize_shortest

CANVAS_OF_CROP: Final = 640 / 384
"""Side of the canvas over that of its windows, as published."""


class CatSegSegmenter(ReadingSegmenter[PictureReading]):
    """CAT-Seg with a vocabulary.

    Args:
        model: The model, put into evaluation mode.
        names: Class names.
        how: Windows or one pass.
        shortest: Shortest side that pictures are brought to first; None leaves them.
    """

    def __init__(
        self, model: CatSeg, names: Sequence[str], *, how: CatSegInference, shortest: int | None = 640
    ) -> None:
        self.model, self.how, self.shortest = model.eval(), how, shortest
        self.shows = model.clip
        super().__init__(names, classes_at_once=how.classes_at_once)

    def embed(self, names: Sequence[str]) -> None:
        """Every name in every sentence."""
        self.texts_TPD = self.model.embed_names(names, shown=self.shown)

    def read(self, image: Image.Image) -> PictureReading:
        """The windows and the whole, as CLIP sees them."""
        resized = image if self.shortest is None else resize_shortest(image, self.shortest)
        return read_picture(self.model, to_pixels(resized).to(self.texts_TPD.device), how=self.how)

    def compare(self, reading: PictureReading, size: tuple[int, int]) -> Iterator[Tensor]:
        """Probabilities (k, H, W) of one group of classes after another."""
        how = replace(self.how, classes_at_once=self.group(size))
        return score_reading(self.model, reading, self.texts_TPD, size=size, how=how)


def catseg_segmenter(model: CatSeg, names: Sequence[str], *, crop: int, how: Inference) -> CatSegSegmenter:
    """A trained model as published: windows of the training crop on a canvas 640 / 384 times as wide."""
    side = how.canvas or round(crop * CANVAS_OF_CROP)
    catseg = CatSegInference(mode=how.mode, canvas=side, window=min(crop, side), class_cap=how.class_cap)
    return CatSegSegmenter(model, names, how=catseg, shortest=how.shortest or side)
