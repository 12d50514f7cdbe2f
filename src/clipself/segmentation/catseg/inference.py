"""How a trained CAT-Seg scores a picture: in windows with a look at the whole, or in a single pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.ops.axes import pieces
from clipself.ops.padding import pad_to_multiple
from clipself.ops.windows import cut_windows, merge_windows, place_windows, resize_map
from clipself.segmentation.catseg.model import CatSeg, CatSegReading
from clipself.segmentation.segmenter import SIZE_DIVISOR
from clipself.segmentation.settings import Mode

WINDOWS_AT_ONCE: Final = 8
"""Windows that CLIP sees in one pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CatSegInference:
    """How pictures are scored.

    Attributes:
        mode: "sliding" windows and the whole, averaged, as the published numbers were made; "whole" is one pass.
        canvas: Side of the square that the picture is squashed to ahead of the windows, in pixels.
        window: Side of a window.
        overlap: Share of a window that its neighbour sees too.
        pooling: Averaging ahead of the class steps; 1 as the published numbers were made.
        class_cap: Most classes looked at for each view. None looks at all; 256 is what the published code does.
        classes_at_once: Classes in one pass; bounds memory.
        keep_padding: Repeats the published single pass, which pads the picture and never removes the padding from the
            scores, so that they are shifted towards the top left.
    """

    mode: Mode = "sliding"
    canvas: int = 640
    window: int = 384
    overlap: float = 0.333
    pooling: int = 1
    class_cap: int | None = None
    classes_at_once: int = 64
    keep_padding: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.overlap < 1.0:
            raise ValueError(f"overlap={self.overlap} is not in [0, 1); it is a share of the window")


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureReading:
    """What CLIP sees of a picture, whatever the names are.

    Attributes:
        views: The windows and, last, the whole; or the whole alone.
        windows: Where the windows lie; empty for the whole alone.
        size: Height and width of the picture that was read.
    """

    views: tuple[CatSegReading, ...]
    windows: tuple[tuple[int, int, int, int], ...]
    size: tuple[int, int]


@torch.no_grad()
def read_picture(model: CatSeg, pixels_3HW: Tensor, *, how: CatSegInference) -> PictureReading:
    """Runs CLIP on every view.

    Args:
        model: In evaluation mode.
        pixels_3HW: Picture in 0..255.
        how: Windows or one pass.
    """
    pixels_3HW, size = pixels_3HW.float(), (pixels_3HW.shape[1], pixels_3HW.shape[2])
    if how.mode == "whole":
        image = model.normalize(pixels_3HW)
        if how.keep_padding:
            image = pad_to_multiple(image, SIZE_DIVISOR)
        return PictureReading(views=(model.read(model.squash(image[None])),), windows=(), size=size)
    side, stride = (how.canvas, how.canvas), int(how.window * (1 - how.overlap))
    windows = tuple(place_windows(side, window=(how.window,) * 2, stride=(stride, stride)))
    whole = _resize(pixels_3HW[None], (how.window,) * 2)
    cut = cut_windows(_resize(pixels_3HW[None], side)[0], windows)
    squares = torch.cat([model.prepare(cut), model.prepare(whole)])
    read = [model.read(some) for some in pieces(squares, WINDOWS_AT_ONCE, axis=0)]
    return PictureReading(views=tuple(view for some in read for view in _one_by_one(some)), windows=windows, size=size)


def _one_by_one(reading: CatSegReading) -> Iterator[CatSegReading]:
    for place in range(len(reading.dense_BDYX)):
        here = slice(place, place + 1)
        yield CatSegReading(dense_BDYX=reading.dense_BDYX[here], guidance=tuple(one[here] for one in reading.guidance))


@torch.no_grad()
def score_reading(
    model: CatSeg, reading: PictureReading, texts_TPD: Tensor, *, size: tuple[int, int], how: CatSegInference
) -> Iterator[Tensor]:
    """Probabilities (t, H, W) of one group of classes after another, at the size asked for.

    Args:
        model: In evaluation mode.
        reading: Of `read_picture`.
        texts_TPD: Of `CatSeg.embed_names`.
        size: Height and width of the result, those of the original picture.
        how: As it was read.
    """
    logits_VTyx = torch.cat(
        [
            model.aggregate(
                view, texts_TPD, pooling=how.pooling, class_cap=how.class_cap, classes_at_once=how.classes_at_once
            )
            for view in reading.views
        ]
    )
    side = (how.canvas, how.canvas)
    for part in pieces(logits_VTyx, how.classes_at_once, axis=1):
        if how.mode == "whole":
            probabilities = part[0].sigmoid()
            if how.keep_padding:  # the published cut works on cells as if they were pixels
                probabilities = probabilities[:, : reading.size[0], : reading.size[1]]
            yield resize_map(probabilities, size)
        else:
            probabilities = _resize(part, (how.window, how.window)).sigmoid()
            merged = merge_windows(probabilities[:-1], reading.windows, side)
            yield resize_map((merged + resize_map(probabilities[-1], side)) / 2, size)


def score_picture(
    model: CatSeg, pixels_3HW: Tensor, texts_TPD: Tensor, *, size: tuple[int, int], how: CatSegInference
) -> Iterator[Tensor]:
    """`read_picture` and `score_reading` in one."""
    return score_reading(model, read_picture(model, pixels_3HW, how=how), texts_TPD, size=size, how=how)


def _resize(maps_VKyx: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps_VKyx, size=tuple(size), mode="bilinear", align_corners=False)
