"""Segmentation without any training: cosines of the dense map with the class names, in windows.

Source: MaskCLIP (arXiv:2112.01071), SCLIP (arXiv:2312.01597), ClearCLIP (arXiv:2407.12442), NACLIP (arXiv:2404.08181);
they differ in how the last block is run (`clipself.backbones.READOUTS`) and share the protocol below.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.data.semantic_training import shortest_size
from clipself.ops.axes import pieces, unfold_axis
from clipself.ops.patches import nearest_whole, require_whole
from clipself.ops.windows import cut_windows, place_windows, spread_matrix
from clipself.segmentation.segmenter import LONGEST, ReadingSegmenter
from clipself.segmentation.streamed_argmax import Decision, streamed_argmax
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.text.synonyms import split_synonyms

WINDOWS_AT_ONCE = 4
"""Windows in one pass of the image tower."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowReading:
    """The dense maps of a picture's windows.

    Attributes:
        dense_VDyx: Windows row by row.
        starts: Rows and columns of pixels at which windows begin.
        size: Height and width of the resized picture.
    """

    dense_VDyx: Tensor
    starts: tuple[list[int], list[int]]
    size: tuple[int, int]


class TrainingFree(ReadingSegmenter[WindowReading]):
    """A dense CLIP as a segmenter.

    Args:
        clip: The model.
        names: Class names; synonyms follow after commas and count as their class by the best of them.
        settings: The protocol; the published one if not given.

    Raises:
        ValueError: A threshold is set, but no name is the background's; or a window is no multiple of the patch.
    """

    def __init__(self, clip: DenseCLIP, names: Sequence[str], settings: TrainingFreeSettings | None = None) -> None:
        settings = settings or TrainingFreeSettings()
        require_whole(settings.window, clip.patch_size, what="window")
        self.clip, self.settings = clip, settings
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
        windows = place_windows(size, window=(how.window,) * 2, stride=(how.stride,) * 2)
        parts = pieces(cut_windows(pixels, windows), WINDOWS_AT_ONCE, axis=0)
        dense = torch.cat([self.clip.dense_map(part, readout=how.readout) for part in parts])
        rows, cols = (sorted({window[axis] for window in windows}) for axis in (0, 1))
        return WindowReading(dense_VDyx=dense, starts=(rows, cols), size=size)

    def compare(self, reading: WindowReading, size: tuple[int, int]) -> Iterator[Tensor]:
        """Logits (k, H, W) of one group of names after another."""
        how, dense_VDyx, (rows, cols) = self.settings, reading.dense_VDyx, reading.starts
        spread_rows, spread_cols = (
            spread_matrix(starts, window=min(how.window, length), cells=cells, length=length, out=out).to(dense_VDyx)
            for starts, length, cells, out in zip((rows, cols), reading.size, dense_VDyx.shape[2:], size, strict=True)
        )
        for texts_kD in pieces(self.texts_SD, self.group(size), axis=0):
            cosine = torch.einsum("vdyx,kd->kvyx", dense_VDyx, texts_kD)
            tiled = unfold_axis(cosine, 1, (len(rows), len(cols))).transpose(2, 3)  # windows' rows side by side
            joined = tiled.flatten(3).flatten(1, 2)
            yield how.logit_scale * (spread_rows @ joined @ spread_cols.T)
