"""A trained SAN as a segmenter: a picture in, a class for every pixel out."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipself.data.semantic_training import to_pixels
from clipself.ops.axes import pieces
from clipself.segmentation.san.model import San
from clipself.segmentation.segmenter import SIZE_DIVISOR, resize_shortest
from clipself.segmentation.streamed_argmax import streamed_argmax


class SanSegmenter:
    """SAN with a vocabulary.

    Args:
        model: The model, put into evaluation mode.
        names: Class names.
        shortest: Shortest side that pictures are brought to.
        classes_at_once: Classes in one pass; bounds memory.
    """

    def __init__(self, model: San, names: Sequence[str], *, shortest: int = 640, classes_at_once: int = 64) -> None:
        self.model, self.names = model.eval(), tuple(names)
        self.shortest, self.classes_at_once = shortest, classes_at_once
        self.texts_TD = model.embed_names(names)

    @torch.no_grad()
    def label(self, image: Image.Image) -> Tensor:
        """The class of every pixel (H, W)."""
        return streamed_argmax(self.score(image)).labels_HW

    @torch.no_grad()
    def score(self, image: Image.Image) -> Iterator[Tensor]:
        """Scores (k, H, W) of one group of classes after another.

        The padding is cut off ahead of the resize; the masks are brought to the picture's size once for all classes.
        """
        pixels = to_pixels(resize_shortest(image, self.shortest)).to(self.texts_TD.device)
        height, width = pixels.shape[1:]
        padded = F.pad(self.model.normalize(pixels), (0, -width % SIZE_DIVISOR, 0, -height % SIZE_DIVISOR))
        (found,) = self.model(padded[None], self.texts_TD)
        masks = F.interpolate(found.masks_BQYX, size=padded.shape[1:], mode="bilinear", align_corners=False)
        cut = masks[:, :, :height, :width]
        masks_QHW = F.interpolate(cut, size=(image.height, image.width), mode="bilinear", align_corners=False)
        soft, classes_QT = masks_QHW[0].sigmoid(), found.logits_BQK[0].softmax(-1)[:, :-1]
        for part_Qk in pieces(classes_QT, self.classes_at_once, axis=1):
            yield torch.einsum("qk,qhw->khw", part_Qk, soft)
