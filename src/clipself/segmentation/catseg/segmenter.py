"""A trained CAT-Seg as a segmenter: a picture in, a class for every pixel out."""

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from clipself.data.semantic_training import to_pixels
from clipself.segmentation.catseg.inference import CatSegInference, score_picture
from clipself.segmentation.catseg.model import CatSeg
from clipself.segmentation.segmenter import resize_shortest
from clipself.segmentation.streamed_argmax import streamed_argmax


class CatSegSegmenter:
    """CAT-Seg with a vocabulary; another vocabulary is another segmenter, so no text can be stale.

    Args:
        model: The model, put into evaluation mode.
        names: Class names.
        how: Windows or one pass.
        shortest: Shortest side that pictures are brought to first; None leaves them.
    """

    def __init__(
        self, model: CatSeg, names: Sequence[str], *, how: CatSegInference, shortest: int | None = 640
    ) -> None:
        self.model, self.names, self.how, self.shortest = model.eval(), tuple(names), how, shortest
        with torch.no_grad():
            self.texts_TPD = model.embed_names(names)

    @torch.no_grad()
    def label(self, image: Image.Image) -> Tensor:
        """The class of every pixel (H, W)."""
        return streamed_argmax(self.score(image)).labels_HW

    def score(self, image: Image.Image) -> Iterator[Tensor]:
        """Probabilities (k, H, W) of one group of classes after another."""
        resized = image if self.shortest is None else resize_shortest(image, self.shortest)
        pixels = to_pixels(resized).to(self.texts_TPD.device)
        return score_picture(self.model, pixels, self.texts_TPD, size=(image.height, image.width), how=self.how)
