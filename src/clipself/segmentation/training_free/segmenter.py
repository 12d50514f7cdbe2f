"""Segmentation without any training: cosines of the dense map with the class names, in windows.

Source: MaskCLIP (arXiv:2112.01071), SCLIP (arXiv:2312.01597), ClearCLIP (arXiv:2407.12442), NACLIP (arXiv:2404.08181);
they differ in how the last block is run (`clipself.backbones.READOUTS`) and share the protocol below. With regions of a
mask generator, each takes the class of most of its pixels: CorrCLIP (arXiv:2411.10086).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.guided_mixes import NO_REGION
from clipself.backbones.readouts import find_readout
from clipself.backbones.text import embed_names
from clipself.data.images import Picture
from clipself.data.semantic_training import shortest_size
from clipself.ops.axes import pieces, unfold_axis
from clipself.ops.patches import nearest_whole, require_whole
from clipself.ops.windows import cut_windows, place_windows, spread_matrix
from clipself.segmentation.segmenter import LONGEST, ReadingSegmenter
from clipself.segmentation.streamed_argmax import Decision, streamed_argmax
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.structures import Segmentation
from clipself.text.synonyms import split_synonyms

WINDOWS_AT_ONCE = 4
"""Windows in one pass of the image tower."""

RegionsOf = Callable[[Image.Image], Tensor]
"""Picture -> number of the region of every pixel (H, W), `NO_REGION` outside all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowReading:
    """The dense maps of a picture's windows.

    Attributes:
        dense_VDyx: Windows row by row.
        starts: Rows and columns of pixels at which windows begin.
        size: Height and width of the resized picture.
        window: Height and width of a window.
        regions_HW: Regions of the picture at its own size, where there are any.
    """

    dense_VDyx: Tensor
    starts: tuple[list[int], list[int]]
    size: tuple[int, int]
    window: tuple[int, int]
    regions_HW: Tensor | None = None


class TrainingFree(ReadingSegmenter[WindowReading]):
    """A dense CLIP as a segmenter.

    Args:
        clip: The model.
        names: Class names; synonyms follow after commas and count as their class by the best of them.
        settings: The protocol; the published one if not given.
        regions: Where regions of pictures come from, such as `region_map` of a mask generator's.

    Raises:
        ValueError: A threshold is set, but no name is the background's; or a window is no multiple of the patch.
    """

    def __init__(
        self,
        clip: DenseCLIP,
        names: Sequence[str],
        settings: TrainingFreeSettings | None = None,
        *,
        regions: RegionsOf | None = None,
    ) -> None:
        settings = settings or TrainingFreeSettings()
        require_whole(settings.window, clip.patch_size, what="window")
        self.clip, self.settings, self.regions = clip, settings, regions
        self.readout = find_readout(settings.readout)
        super().__init__(names, classes_at_once=settings.classes_at_once)

    def embed(self, names: Sequence[str]) -> None:
        """One row a synonym."""
        settings, firsts = self.settings, [split_synonyms(name)[0] for name in names]
        if settings.threshold and settings.background not in firsts:
            raise ValueError(f"threshold={settings.threshold} needs a class {settings.background!r} among the names")
        text = embed_names(self.clip, names, templates=settings.templates, wording="as-written", progress=True)
        self.background = firsts.index(settings.background) if settings.threshold else None
        self.class_of = torch.tensor([place for place, count in enumerate(text.counts) for _ in range(count)])
        self.texts_SD = text.rows_SD

    def decide(self, scores: Iterator[Tensor]) -> Decision:
        """The best class; background where a threshold is set and nothing is probable."""
        found = streamed_argmax(scores, softmax=self.background is not None, class_of=self.class_of)
        if self.background is None:
            return found
        labels = found.labels_HW.where(found.scores_HW >= self.settings.threshold, self.background)
        return Decision(labels_HW=labels, scores_HW=found.scores_HW)

    def read(self, image: Image.Image) -> WindowReading:
        """The dense map of every window."""
        how, patch = self.settings, self.clip.patch_size
        height, width = shortest_size((image.height, image.width), how.shortest, longest=LONGEST)
        size = (nearest_whole(height, patch), nearest_whole(width, patch))
        pixels = self.clip.preprocess(image, size=size)
        window = size if self.readout.window else (min(how.window, size[0]), min(how.window, size[1]))
        windows = place_windows(size, window=window, stride=(how.stride,) * 2)
        regions_HW = None if self.regions is None else self.regions(image).to(pixels.device)
        kept = [None] * len(windows)
        if regions_HW is not None and self.readout.takes_regions:
            at_size = F.interpolate(regions_HW[None, None].double(), size=size, mode="nearest-exact")[0].long()
            kept = list(cut_windows(at_size, windows))
        parts = zip(
            pieces(cut_windows(pixels, windows), WINDOWS_AT_ONCE, axis=0),
            (kept[start : start + WINDOWS_AT_ONCE] for start in range(0, len(kept), WINDOWS_AT_ONCE)),
            strict=True,
        )
        dense = torch.cat(
            [
                self.clip.dense_map(part, readout=self.readout, regions=None if some[0] is None else torch.cat(some))
                for part, some in parts
            ]
        )
        rows, cols = (sorted({window[axis] for window in windows}) for axis in (0, 1))
        return WindowReading(dense_VDyx=dense, starts=(rows, cols), size=size, window=window, regions_HW=regions_HW)

    @torch.no_grad()
    def segment(self, image: Picture | None = None) -> Segmentation:
        """Names every pixel; with regions, each of them as most of its pixels are named."""
        found = super().segment(image)
        regions_HW = None if self._set is None else self._set[1].regions_HW
        if regions_HW is None or not self.settings.by_region:
            return found
        return replace(found, labels_HW=most_common(found.labels_HW, regions_HW.cpu(), classes=len(self.names)))

    def compare(self, reading: WindowReading, size: tuple[int, int]) -> Iterator[Tensor]:
        """Logits (k, H, W) of one group of names after another."""
        how, dense_VDyx, (rows, cols) = self.settings, reading.dense_VDyx, reading.starts
        spread_rows, spread_cols = (
            spread_matrix(starts, window=window, cells=cells, length=length, out=out).to(dense_VDyx)
            for starts, window, length, cells, out in zip(
                (rows, cols), reading.window, reading.size, dense_VDyx.shape[2:], size, strict=True
            )
        )
        for texts_kD in pieces(self.texts_SD, self.group(size), axis=0):
            cosine = torch.einsum("vdyx,kd->kvyx", dense_VDyx, texts_kD)
            tiled = unfold_axis(cosine, 1, (len(rows), len(cols))).transpose(2, 3)  # windows' rows side by side
            joined = tiled.flatten(3).flatten(1, 2)
            yield how.logit_scale * (spread_rows @ joined @ spread_cols.T)


def most_common(labels_HW: Tensor, regions_HW: Tensor, *, classes: int) -> Tensor:
    """Each region's pixels under the label that most of them have; those of no region keep their own."""
    numbers, place_HW = torch.unique(regions_HW, return_inverse=True)
    counts = torch.bincount((place_HW * classes + labels_HW).flatten(), minlength=len(numbers) * classes)
    best = counts.reshape(len(numbers), classes).argmax(1)[place_HW]
    return labels_HW.where(regions_HW == NO_REGION, best)


def region_map(masks_QHW: Tensor) -> Tensor:
    """Masks, the best first, as numbers of pixels (H, W): where masks overlap the smaller one shows."""
    regions_HW = torch.full(masks_QHW.shape[1:], NO_REGION)
    for place in masks_QHW.flatten(1).sum(1).argsort(descending=True, stable=True).tolist():
        regions_HW[masks_QHW[place]] = place
    return regions_HW
