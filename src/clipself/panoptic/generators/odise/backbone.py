"""ODISE's backbone: a frozen diffusion model that is told what the CLIP sees, as a pyramid for mask decoders."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.layers.pixel_decoder import NormedConv
from clipself.panoptic.generators.diffusion import LatentDiffusion, squares
from clipself.panoptic.generators.odise.captioner import ImplicitCaption, ImplicitCaptioner, embed_pixels

STRIDES: Final = (4, 8, 16, 32)
"""Of the pyramid that mask decoders stand on."""
NARROWER: Final = 4
"""How much narrower a projection is inside."""


class Bottleneck(nn.Module):
    """A residual bottleneck with group norms: 1x1, 3x3, 1x1, and a projected shortcut where the width changes.

    Args:
        inside: Channels in.
        outside: Channels out; a multiple of 128, so that 32 groups divide a quarter of it.
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        narrow = outside // NARROWER
        self.shortcut = NormedConv(inside, outside, kernel=1) if inside != outside else None
        self.conv1 = NormedConv(inside, narrow, kernel=1)
        self.conv2 = NormedConv(narrow, narrow, kernel=3)
        self.conv3 = NormedConv(narrow, outside, kernel=1)

    def forward(self, map_BCYX: Tensor) -> Tensor:
        """A map of the same grid."""
        mixed = self.conv3(F.relu(self.conv2(F.relu(self.conv1(map_BCYX)))))
        return F.relu(mixed + (map_BCYX if self.shortcut is None else self.shortcut(map_BCYX)))


class DiffusionPyramid(nn.Module):
    """Maps at strides 4, 8, 16 and 32 of square crops, each read in one pass of the diffusion model.

    Source: ODISE (arXiv:2303.04803), Sec. 3.2, and its released code with its parameter names. The projections learn
    and the captioner; diffusion model and CLIP stay outside, neither trained, saved nor sent between processes.

    Args:
        diffusion: Frozen.
        clip: Frozen; None for no captioner: the diffusion model is then given the empty text.
        projection: Channels of every level; a multiple of 128.
        crop: Side of the squares that the diffusion model sees, in pixels; those of smaller pictures are enlarged.
        strides: Of the levels; a tap of a stride beyond them joins the nearest.

    Raises:
        ValueError: A stride has no tap, or the width is no multiple of 128.
    """

    def __init__(
        self,
        diffusion: LatentDiffusion,
        clip: DenseCLIP | None,
        *,
        projection: int = 512,
        crop: int = 512,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__()
        if projection % (32 * NARROWER):
            raise ValueError(f"projection={projection} must be a multiple of {32 * NARROWER}, the groups of its norms")
        object.__setattr__(self, "_frozen", (diffusion, clip))
        self.crop, self.strides, self.widths = crop, tuple(strides), (projection,) * len(strides)
        self._stride_of = [min(max(tap.stride, min(strides)), max(strides)) for tap in diffusion.taps]
        missing = [stride for stride in strides if stride not in self._stride_of]
        if missing:
            raise ValueError(f"no block that is read has stride {missing[0]}; they have {sorted(set(self._stride_of))}")
        self.feature_extractor = None if clip is None else ImplicitCaptioner(
            clip_dim=clip.embed_dim, length=diffusion.empty_1LC.shape[1], width=diffusion.empty_1LC.shape[2],
            time_width=diffusion.time_width,
        )  # fmt: skip
        self.feature_projections = nn.ModuleList(
            nn.Sequential(Bottleneck(tap.width, projection)) for tap in diffusion.taps
        )

    def caption(self, squares_B3SS: Tensor) -> ImplicitCaption:
        """What the diffusion model is told about images in [0, 1]."""
        diffusion, clip = self._parts()
        if self.feature_extractor is None or clip is None:
            return ImplicitCaption(prompt_BLC=diffusion.empty_1LC.expand(len(squares_B3SS), -1, -1), time_B1T=None)
        caption: ImplicitCaption = self.feature_extractor(
            embed_pixels(clip, squares_B3SS), empty_1LC=diffusion.empty_1LC
        )
        return caption

    def read(self, squares_B3SS: Tensor) -> list[Tensor]:
        """What enters the tapped blocks for images in [0, 1]; a map for each projection."""
        told = self.caption(squares_B3SS)
        return self._parts()[0].read(squares_B3SS, prompt_BLC=told.prompt_BLC, time_B1T=told.time_B1T)

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Images in [0, 1], sides multiples of the coarsest stride -> the levels, finest first.

        Overlapping crops are averaged.

        Raises:
            ValueError: A side is no multiple of the coarsest stride.
        """
        (height, width), coarsest = images_B3HW.shape[-2:], max(self.strides)
        if height % coarsest or width % coarsest:
            raise ValueError(f"images of {height} x {width} do not divide by {coarsest}; resize or pad them")
        shape = (len(images_B3HW), self.widths[0])
        sums = [images_B3HW.new_zeros(*shape, height // stride, width // stride) for stride in self.strides]
        counts = [torch.zeros_like(one[:1, :1]) for one in sums]
        side = min(self.crop, height, width)
        for top, left in corners_of((height, width), side):
            levels = self._project(images_B3HW[..., top : top + side, left : left + side])
            for place, (stride, level) in enumerate(zip(self.strides, levels, strict=True)):
                pad = _around(level, (top // stride, left // stride), sums[place])
                sums[place] = sums[place] + F.pad(level, pad)
                counts[place] = counts[place] + F.pad(torch.ones_like(level[:1, :1]), pad)
        return [one / count for one, count in zip(sums, counts, strict=True)]

    def _project(self, crops_B3ss: Tensor) -> list[Tensor]:
        """The pyramid of one crop of each image: taps by nearest resizing to the crop's own grids, then projected."""
        side = crops_B3ss.shape[-1]
        levels: dict[int, Tensor] = {}
        read = self.read(squares(crops_B3ss, self.crop))
        for stride, one, project in zip(self._stride_of, read, self.feature_projections, strict=True):
            resized = F.interpolate(one, size=(side // stride, side // stride), mode="nearest")
            projected = project(resized)
            levels[stride] = levels[stride] + projected if stride in levels else projected
        return [levels[stride] for stride in self.strides]

    def _parts(self) -> tuple[LatentDiffusion, DenseCLIP | None]:
        parts: tuple[LatentDiffusion, DenseCLIP | None] = self._frozen  # type: ignore[assignment]
        return parts


def corners_of(size: tuple[int, int], side: int) -> Iterator[tuple[int, int]]:
    """Upper left corners of squares that cover a picture, row by row; the last ones are pushed back inside.

    Args:
        size: Height and width of the picture.
        side: Of the squares, at most the shorter side of the picture.
    """
    tops, lefts = ([min(start, whole - side) for start in range(0, whole, side)] for whole in size)
    return product(tops, lefts)


def _around(level: Tensor, corner: tuple[int, int], whole: Tensor) -> list[int]:
    """Cells to the left, right, above and below a part of a map."""
    (top, left), (height, width) = corner, whole.shape[-2:]
    return [left, width - left - level.shape[-1], top, height - top - level.shape[-2]]


class DiffusionFeatures:
    """A frozen diffusion model as what mask decoders stand on; the CLIP gives captions and names.

    Args:
        diffusion: Frozen.
        clip: Frozen; also says how the images are normalised.
        captioner: Whether the diffusion model is told what the CLIP sees.
        projection: Channels of every level.
        crop: Side of the squares that it sees, in pixels.
    """

    step: Final = 2 * STRIDES[-1]  # the published divisor: corners of crops lie on whole cells of every level

    def __init__(
        self, diffusion: LatentDiffusion, clip: DenseCLIP, *, captioner: bool = True, projection: int = 512,
        crop: int = 512,
    ) -> None:  # fmt: skip
        self.diffusion, self.clip, self.captioner = diffusion, clip, captioner
        self.projection, self.crop = projection, crop
        self.mean, self.std = (torch.tensor(one)[:, None, None] for one in (clip.image_mean, clip.image_std))

    @property
    def digest(self) -> str:
        """Of the diffusion model's weights."""
        return self.diffusion.digest

    def read(self, images_B3HW: Tensor) -> list[Tensor]:
        """The images in [0, 1]; blocks are read where the pyramid is made of them, since its captioner learns."""
        return [images_B3HW * self.std.to(images_B3HW) + self.mean.to(images_B3HW)]

    def new_pyramid(self, channels: int) -> "PixelPyramid":
        """The part that learns; its levels have a width of their own."""
        del channels
        clip = self.clip if self.captioner else None
        return PixelPyramid(DiffusionPyramid(self.diffusion, clip, projection=self.projection, crop=self.crop))


class PixelPyramid(nn.Module):
    """A pyramid on pixels where decoders hand over what was read, which are the pixels.

    Args:
        backbone: The pyramid.
    """

    def __init__(self, backbone: DiffusionPyramid) -> None:
        super().__init__()
        self.backbone, self.widths = backbone, backbone.widths

    def forward(self, read: Sequence[Tensor], images_B3HW: Tensor) -> list[Tensor]:
        """What `DiffusionFeatures.read` gave -> four levels, finest first."""
        del images_B3HW
        levels: list[Tensor] = self.backbone(read[0])
        return levels
