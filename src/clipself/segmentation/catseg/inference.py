"""How a trained CAT-Seg scores a picture: in windows with a look at the whole, or in a single pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.ops.axes import pieces
from clipself.ops.windows import cut_windows, merge_windows, place_windows, resize_map
from clipself.segmentation.catseg.model import CatSeg
from clipself.segmentation.segmenter import SIZE_DIVISOR


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

    mode: Literal["sliding", "whole"] = "sliding"
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


@torch.no_grad()
def score_picture(
    model: CatSeg, pixels_3HW: Tensor, texts_TPD: Tensor, *, size: tuple[int, int], how: CatSegInference
) -> Iterator[Tensor]:
    """Probabilities (t, H, W) of one group of classes after another, at the size asked for.

    Args:
        model: In evaluation mode.
        pixels_3HW: Picture in 0..255.
        texts_TPD: Of `CatSeg.embed_names`.
        size: Height and width of the result, those of the original picture.
        how: Windows or one pass.
    """
    if how.mode == "whole":
        yield from _score_whole(model, pixels_3HW, texts_TPD, size=size, how=how)
        return
    side = (how.canvas, how.canvas)
    canvas = F.interpolate(pixels_3HW[None].float(), size=side, mode="bilinear", align_corners=False)[0]
    stride = int(how.window * (1 - how.overlap))
    windows = place_windows(side, window=(how.window,) * 2, stride=(stride, stride))
    whole = F.interpolate(pixels_3HW[None].float(), size=(how.window,) * 2, mode="bilinear", align_corners=False)
    views = [*pieces(cut_windows(canvas, windows), 1, axis=0), whole]
    logits_VTyx = torch.cat([_run(model, model.prepare(view), texts_TPD, how) for view in views])
    for part in pieces(logits_VTyx, how.classes_at_once, axis=1):
        probabilities = _resize(part, (how.window, how.window)).sigmoid()
        merged = merge_windows(probabilities[:-1], windows, side)
        yield resize_map((merged + resize_map(probabilities[-1], side)) / 2, size)


def _score_whole(
    model: CatSeg, pixels_3HW: Tensor, texts_TPD: Tensor, *, size: tuple[int, int], how: CatSegInference
) -> Iterator[Tensor]:
    image = model.normalize(pixels_3HW.float())
    if how.keep_padding:
        image = F.pad(image, (0, -image.shape[2] % SIZE_DIVISOR, 0, -image.shape[1] % SIZE_DIVISOR))
    (logits_Tyx,) = _run(model, model.squash(image[None]), texts_TPD, how)
    for part in pieces(logits_Tyx, how.classes_at_once, axis=0):
        probabilities = part.sigmoid()
        if how.keep_padding:  # the published cut works on cells as if they were pixels
            probabilities = probabilities[:, : pixels_3HW.shape[1], : pixels_3HW.shape[2]]
        yield resize_map(probabilities, size)


def _run(model: CatSeg, images_B3SS: Tensor, texts_TPD: Tensor, how: CatSegInference) -> Tensor:
    return model(  # type: ignore[no-any-return]
        images_B3SS, texts_TPD, pooling=how.pooling, class_cap=how.class_cap, classes_at_once=how.classes_at_once
    )


def _resize(maps_VKyx: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps_VKyx, size=tuple(size), mode="bilinear", align_corners=False)
