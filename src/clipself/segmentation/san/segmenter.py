"""A trained SAN as a segmenter: a picture in, a class for every pixel out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from clipself.data.semantic_training import to_pixels
from clipself.ops.axes import pieces
from clipself.ops.contenders import best_by_masks
from clipself.ops.masks import class_scores
from clipself.ops.padding import pad_to_multiple
from clipself.ops.windows import resize_matrix
from clipself.segmentation.san.model import San
from clipself.segmentation.segmenter import SIZE_DIVISOR, Inference, ReadingSegmenter, resize_shortest
from clipself.segmentation.streamed_argmax import Decision


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskReading:
    """What SAN finds in a picture, whatever the names are.

    Attributes:
        masks_QYX: Mask logits at the grid of the side network.
        masks_QD: Unit embeddings of the masks.
        padded: Height and width of what the network saw.
        size: Height and width without the padding.
    """

    masks_QYX: Tensor
    masks_QD: Tensor
    padded: tuple[int, int]
    size: tuple[int, int]

    def spread(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Matrices of rows and of columns that bring masks to a size: rows @ masks @ columns.T.

        As published they are brought to what the network saw, cut, and resized, bilinearly each time.
        """
        rows, cols = (
            resize_matrix(resize_matrix(torch.eye(cells), padded)[:kept], out).to(self.masks_QYX)
            for cells, padded, kept, out in zip(self.masks_QYX.shape[1:], self.padded, self.size, size, strict=True)
        )
        return rows, cols


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
        return MaskReading(
            masks_QYX=found.masks_BQYX[0], masks_QD=found.masks_BQD[0],
            padded=(padded.shape[1], padded.shape[2]), size=(height, width),
        )  # fmt: skip

    def compare(self, reading: MaskReading, size: tuple[int, int]) -> Iterator[Tensor]:
        """Scores (k, H, W) of one group of classes after another; the padding is cut off ahead of the resize."""
        (rows, cols), at_once = reading.spread(size), self.group(size)
        parts = list(pieces(reading.masks_QYX, max(at_once, self.fitting(size)), axis=0))
        soft = [(rows @ parts[0] @ cols.T).sigmoid()] if len(parts) == 1 else None  # once, where memory allows it
        for part_Qk in pieces(self.classes(reading), at_once, axis=1):
            total, first = torch.zeros(part_Qk.shape[1], *size, device=cols.device), 0
            for masks_qHW in soft or ((rows @ part @ cols.T).sigmoid() for part in parts):
                total += class_scores(part_Qk[first : first + len(masks_qHW)], masks_qHW)
                first += len(masks_qHW)
            yield total

    def decide(self, reading: MaskReading, size: tuple[int, int]) -> Decision:
        """The best class; on a processor only those are looked at that can win."""
        if reading.masks_QYX.device.type != "cpu":
            return super().decide(reading, size)
        rows, cols = reading.spread(size)
        labels_HW, scores_HW = best_by_masks(
            self.classes(reading),
            lambda down, along: (rows[down] @ reading.masks_QYX @ cols[along].T).sigmoid(),
            size,
        )
        return Decision(labels_HW=labels_HW, scores_HW=scores_HW)

    def classes(self, reading: MaskReading) -> Tensor:
        """Class probabilities (Q, T) of each mask; what is left of one is background."""
        return self.model.classify(reading.masks_QD[None], self.texts_TD)[0].softmax(-1)[:, :-1]


def san_segmenter(model: San, names: Sequence[str], *, crop: int, how: Inference) -> SanSegmenter:
    """A trained model as published: pictures as large as the training crop."""
    return SanSegmenter(model, names, shortest=how.shortest or crop)
