"""Segmentation without any training: cosines of the dense map with the class names, in windows.

Source: MaskCLIP (arXiv:2112.01071), SCLIP (arXiv:2312.01597), ClearCLIP (arXiv:2407.12442), NACLIP (arXiv:2404.08181);
they differ in how the last block is run (`clipself.backbones.READOUTS`) and share the protocol below. With regions of a
mask generator, each takes the class of most of its pixels: CorrCLIP (arXiv:2411.10086).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.readouts import find_readout
from clipself.backbones.text import embed_names
from clipself.data.images import Picture
from clipself.ops.axes import pieces, unfold_axis
from clipself.ops.contenders import best_by_maps
from clipself.ops.patches import require_whole
from clipself.ops.windows import cut_windows, place_windows, spread_matrix
from clipself.segmentation.segmenter import ReadingSegmenter
from clipself.segmentation.streamed_argmax import Decision, streamed_argmax
from clipself.segmentation.training_free.bank import RegionBank, guide_keys
from clipself.segmentation.training_free.regions import RegionsOf, bring, most_common, on_grid
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.structures import Segmentation
from clipself.text.synonyms import split_synonyms

MANY_NAMES = 30
"""As many are embedded with a bar."""
FEW_NAMES = 32
"""Fewer are all compared: to find out which could win costs more."""
WINDOWS_AT_ONCE = 4
"""Windows in one pass of the image tower."""


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

    def spread(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Matrices of rows and of columns that bring what cells say to a size: rows @ cells @ columns.T."""
        rows, cols = (
            spread_matrix(starts, window=window, cells=cells, length=length, out=out).to(self.dense_VDyx)
            for starts, window, length, cells, out in zip(
                self.starts, self.window, self.size, self.dense_VDyx.shape[2:], size, strict=True
            )
        )
        return rows, cols


class TrainingFree(ReadingSegmenter[WindowReading]):
    """A dense CLIP as a segmenter.

    Args:
        clip: The model.
        names: Class names; synonyms follow after commas and count as their class by the best of them.
        settings: The protocol; the published one if not given.
        regions: Where regions of pictures come from, such as `region_map` of a mask generator's.
        bank: Regions of unlabelled pictures, which support those of these pictures.

    Raises:
        ValueError: A threshold is set, but no name is the background's; a window is no multiple of the patch; or the
            bank was made by another CLIP or guide, or there are no regions that it could support.
    """

    def __init__(
        self,
        clip: DenseCLIP,
        names: Sequence[str],
        settings: TrainingFreeSettings | None = None,
        *,
        regions: RegionsOf | None = None,
        bank: RegionBank | None = None,
    ) -> None:
        settings = settings or TrainingFreeSettings()
        require_whole(settings.window, clip.patch_size, what="window")
        self.clip, self.settings, self.shows = clip, settings, clip
        self.regions, self.bank = regions, bank
        self.readout = find_readout(settings.readout)
        if bank is not None and regions is None:
            raise ValueError("a bank supports regions, and none are given; pass regions=")
        if bank is not None and (bank.guide, bank.weights) != (self.readout.guide, clip.weights_hash("image")):
            raise ValueError(
                f"the bank was made by the guide {bank.guide!r} and a CLIP of digest {bank.weights}, here they are "
                f"{self.readout.guide!r} and {clip.weights_hash('image')}; make one with `build_bank`"
            )
        super().__init__(names, classes_at_once=settings.classes_at_once)

    def embed(self, names: Sequence[str]) -> None:
        """One row a synonym."""
        settings, firsts = self.settings, [split_synonyms(name)[0] for name in names]
        if settings.threshold and settings.background not in firsts:
            raise ValueError(f"threshold={settings.threshold} needs a class {settings.background!r} among the names")
        text = embed_names(
            self.clip, names, templates=settings.templates, wording="as-written", shown=self.shown,
            progress=len(names) >= MANY_NAMES,
        )  # fmt: skip
        self.background = firsts.index(settings.background) if settings.threshold else None
        self.class_of = torch.tensor([place for place, count in enumerate(text.counts) for _ in range(count)])
        self.texts_SD = text.rows_SD

    def decide(self, reading: WindowReading, size: tuple[int, int]) -> Decision:
        """The best class; background where a threshold is set and nothing is probable.

        Without a threshold, which asks for the softmax over all, a processor looks only at names that can win.
        """
        if self.background is not None:
            found = streamed_argmax(self.compare(reading, size), softmax=True, class_of=self.class_of)
            labels = found.labels_HW.where(found.scores_HW >= self.settings.threshold, self.background)
            return Decision(labels_HW=labels, scores_HW=found.scores_HW)
        if reading.dense_VDyx.device.type != "cpu" or len(self.texts_SD) < FEW_NAMES:
            return streamed_argmax(self.compare(reading, size), class_of=self.class_of)
        places_HW, cosines_HW = best_by_maps(self.cosines(reading, self.texts_SD), *reading.spread(size))
        return Decision(labels_HW=self.class_of[places_HW], scores_HW=self.settings.logit_scale * cosines_HW)

    def read(self, image: Image.Image) -> WindowReading:
        """The dense map of every window."""
        how, regions_HW = self.settings, None if self.regions is None else self.regions(image)
        held = torch.zeros(1, 1, dtype=torch.long) if regions_HW is None else regions_HW
        pixels, at_size = bring(self.clip, image, held, shortest=how.shortest)
        size = (pixels.shape[-2], pixels.shape[-1])
        window = size if self.readout.window else (min(how.window, size[0]), min(how.window, size[1]))
        windows = place_windows(size, window=window, stride=(how.stride,) * 2)
        regions_Vhw = cut_windows(at_size[None], windows)[:, 0]
        uses_them = regions_HW is not None and self.readout.takes_regions
        dense = torch.cat(
            [
                self.clip.dense_map(part, readout=self.readout, regions=some if uses_them else None)
                for part, some in zip(
                    pieces(cut_windows(pixels, windows), WINDOWS_AT_ONCE, axis=0),
                    pieces(regions_Vhw, WINDOWS_AT_ONCE, axis=0),
                    strict=True,
                )
            ]
        )
        if self.bank is not None:
            dense = self.supported(
                self.bank, dense, regions_Vhw, guide_keys(self.clip, pixels, at_size, guide=self.readout.guide)
            )
        rows, cols = (sorted({place[axis] for place in windows}) for axis in (0, 1))
        return WindowReading(dense_VDyx=dense, starts=(rows, cols), size=size, window=window, regions_HW=regions_HW)

    def supported(self, bank: RegionBank, dense_VDyx: Tensor, regions_Vhw: Tensor, keys: dict[int, Tensor]) -> Tensor:
        """Each region's cells with what the bank says of its like, unit vectors; cells of no region as they are."""
        if not keys:
            return dense_VDyx
        support_RD = bank.support(torch.stack(list(keys.values())), top=self.settings.bank_top)
        added = torch.zeros_like(dense_VDyx)
        for place, regions_hw in enumerate(regions_Vhw):
            cells = on_grid(regions_hw, (dense_VDyx.shape[-2], dense_VDyx.shape[-1]))
            for number, support_D in zip(keys, support_RD, strict=True):
                added[place] += (cells == number) * support_D[:, None, None]
        return F.normalize(dense_VDyx + self.settings.bank_weight * added, dim=1)

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
        spread_rows, spread_cols = reading.spread(size)
        spread_rows = self.settings.logit_scale * spread_rows
        for texts_kD in pieces(self.texts_SD, self.group(size), axis=0):
            yield spread_rows @ self.cosines(reading, texts_kD) @ spread_cols.T

    def cosines(self, reading: WindowReading, texts_kD: Tensor) -> Tensor:
        """Cosines with names in every cell, windows side by side: (k, rows of all windows, columns of all)."""
        grid = (len(reading.starts[0]), len(reading.starts[1]))
        cosine_kVyx = torch.einsum("vdyx,kd->kvyx", reading.dense_VDyx, texts_kD)
        tiled = unfold_axis(cosine_kVyx, 1, grid).transpose(2, 3)
        return tiled.flatten(3).flatten(1, 2)
