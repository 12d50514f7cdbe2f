"""A trained SAN as a segmenter: a picture in, a class for every pixel out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipself.data.semantic_training import to_pixels
from clipself.ops.axes import pieces
from clipself.ops.masks import class_scores
from clipself.ops.padding import pad_to_multiple
from clipself.segmentation.san.model import San
from clipself.segmentation.segmenter import SIZE_DIVISOR, Inference, ReadingSegmenter, resize_shortest


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskReading:
    """What SAN finds in a picture, whatever the names are.

    Attributes:
        masks_QYX: Mask logits at the padded size.
        masks_QD: Unit embeddings of the masks.
        size: Height and width without the padding.
    """

    masks_QYX: Tensor
    masks_QD: Tensor
    size: tuple[int, int]


class SanSegmenter(ReadingSegmenter[MaskReading]):
    """SAN with a vocabulary.

    Args:
        model: The model, put into evaluation mode.
        names: Class names.
        shortest: Shortest side that pictures are brought to.
        classes_at_once: Classes in one pass; bounds memory.
    """

    def __init__(self, model: San, names: Sequence[str], *, shortest: int = 640, classes_at_once: int = 64) -> None:
        self.model, self.shortest, self.shows = model.eval(), shortest, model.clip
        super().__init__(names, classes_at_once=classes_at_once)

    def embed(self, names: Sequence[str]) -> None:
        """One row a name."""
        self.texts_TD = self.model.embed_names(names, shown=self.shown)

    def read(self, image: Image.Image) -> MaskReading:
        """Masks and their embeddings."""
        pixels = to_pixels(resize_shortest(image, self.shortest)).to(self.texts_TD.device)
        height, width = pixels.shape[1:]
        padded = pad_to_multiple(self.model.normalize(pixels), SIZE_DIVISOR)
        (found,) = self.model.find_masks(padded[None])
        masks = F.interpolate(found.masks_BQYX, size=padded.shape[1:], mode="bilinear", align_corners=False)
        return MaskReading(masks_QYX=masks[0], masks_QD=found.masks_BQD[0], size=(height, width))

    def compare(self, reading: MaskReading, size: tuple[int, int]) -> Iterator[Tensor]:
        """Scores (k, H, W) of one group of classes after another; the padding is cut off ahead of the resize."""
        logits_QK = self.model.classify(reading.masks_QD[None], self.texts_TD)[0]
        classes_QT, at_once = logits_QK.softmax(-1)[:, :-1], self.group(size)
        cut = reading.masks_QYX[:, : reading.size[0], : reading.size[1]]
        parts = list(pieces(cut, max(at_once, self.fitting(size)), axis=0))
        soft = [_enlarge(parts[0], size)] if len(parts) == 1 else None  # once for all classes, where memory allows it
        for part_Qk in pieces(classes_QT, at_once, axis=1):
            total = torch.zeros(part_Qk.shape[1], *size, device=cut.device)
            first = 0
            for masks_qHW in soft or (_enlarge(part, size) for part in parts):
                total += class_scores(part_Qk[first : first + len(masks_qHW)], masks_qHW)
                first += len(masks_qHW)
            yield total


def _enlarge(masks_QYX: Tensor, size: tuple[int, int]) -> Tensor:
    if masks_QYX.shape[1:] == size:  # interpolation would copy every value
        return masks_QYX.sigmoid()
    return F.interpolate(masks_QYX[None], size=size, mode="bilinear", align_corners=False)[0].sigmoid()


def san_segmenter(model: San, names: Sequence[str], *, crop: int, how: Inference) -> SanSegmenter:
    """A trained model as published: pictures as large as the training crop."""
    return SanSegmenter(model, names, shortest=how.shortest or crop)
