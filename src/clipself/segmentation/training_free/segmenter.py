"""Segmentation without any training: cosines of the dense map with the class names, in windows.

Source: MaskCLIP (arXiv:2112.01071), SCLIP (arXiv:2312.01597), ClearCLIP (arXiv:2407.12442), NACLIP (arXiv:2404.08181);
they differ in how the last block is run (`clipself.backbones.READOUTS`) and share the protocol below.
"""

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.data.semantic_training import shortest_size
from clipself.ops.axes import pieces, unfold_axis
from clipself.ops.patches import nearest_whole, require_whole
from clipself.ops.windows import cut_windows, place_windows, spread_matrix
from clipself.segmentation.streamed_argmax import Decision, streamed_argmax
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.text.synonyms import split_synonyms


class TrainingFree:
    """A dense CLIP as a segmenter.

    Args:
        clip: The model.
        names: Class names; synonyms follow after commas and count as their class by the best of them.
        settings: The protocol.

    Raises:
        ValueError: A threshold is set, but no name is the background's; or a window is no multiple of the patch.
    """

    def __init__(self, clip: DenseCLIP, names: Sequence[str], settings: TrainingFreeSettings) -> None:
        require_whole(settings.window, clip.patch_size, what="window")
        self.clip, self.names, self.settings = clip, tuple(names), settings
        spoken = [split_synonyms(name) for name in names]
        firsts = [some[0] for some in spoken]
        if settings.threshold and settings.background not in firsts:
            raise ValueError(f"threshold={settings.threshold} needs a class {settings.background!r} among the names")
        self.background = firsts.index(settings.background) if settings.threshold else None
        self.class_of = torch.tensor([place for place, some in enumerate(spoken) for _ in some])
        self.texts_SD = embed_names(clip, names, templates=settings.templates, wording="as-written").rows_SD

    @torch.no_grad()
    def label(self, image: Image.Image) -> Tensor:
        """The class of every pixel (H, W)."""
        found: Decision = streamed_argmax(
            self.score(image), softmax=self.background is not None, class_of=self.class_of
        )
        if self.background is None:
            return found.labels_HW
        return found.labels_HW.where(found.scores_HW >= self.settings.threshold, self.background)

    def score(self, image: Image.Image) -> Iterator[Tensor]:
        """Logits (k, H, W) of one group of names after another, at the picture's own size."""
        how, patch = self.settings, self.clip.patch_size
        height, width = shortest_size((image.height, image.width), how.shortest, longest=10**6)
        size = (nearest_whole(height, patch), nearest_whole(width, patch))
        pixels = self.clip.preprocess(image, size=size)
        windows = place_windows(size, window=(how.window,) * 2, stride=(how.stride,) * 2)
        dense_VDyx = torch.cat(
            [self.clip.dense_map(part, readout=how.readout) for part in pieces(cut_windows(pixels, windows), 4, axis=0)]
        )
        rows, cols = (sorted({window[axis] for window in windows}) for axis in (0, 1))
        spread_rows, spread_cols = (
            spread_matrix(starts, window=min(how.window, length), cells=cells, length=length, out=out).to(dense_VDyx)
            for starts, length, cells, out in zip(
                (rows, cols), size, dense_VDyx.shape[2:], (image.height, image.width), strict=True
            )
        )
        for texts_kD in pieces(self.texts_SD, how.classes_at_once, axis=0):
            cosine = torch.einsum("vdyx,kd->kvyx", dense_VDyx, texts_kD)
            tiled = unfold_axis(cosine, 1, (len(rows), len(cols))).transpose(2, 3)  # windows' rows side by side
            joined = tiled.flatten(3).flatten(1, 2)
            yield how.logit_scale * (spread_rows @ joined @ spread_cols.T)
