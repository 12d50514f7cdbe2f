"""From taps of a trunk to a feature pyramid: stages that are one already, or taps of a plain transformer."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.layers.norms import ChannelNorm, ConvNorm, make_norm


class StagePyramid(nn.Module):
    """Stages of several strides, a pyramid as they are.

    Args:
        widths: Channels of each stage, finest first.
        strides: Strides in pixels.
    """

    def __init__(self, *, widths: Sequence[int], strides: Sequence[float]) -> None:
        super().__init__()
        self.widths, self.strides = tuple(widths), tuple(map(float, strides))

    def forward(self, taps: Sequence[Tensor], images_B3HW: Tensor | None = None) -> list[Tensor]:
        """The maps of the stages, finest first; the images are not looked at."""
        del images_B3HW
        return list(taps)


class TapPyramid(nn.Module):
    """Taps at one stride to several: x4, x2, as it is, half.

    Source: F-ViT (CLIPSelf, detection), after ViTDet (arXiv:2203.16527).

    Args:
        width: Channels of the taps.
        stride: Their stride, in pixels.
        norm: Norm between the two transposed convolutions of the finest level.
        factors: What each tap is enlarged by, finest first; any of 4, 2, 1 and 0.5.
    """

    FACTORS = (4.0, 2.0, 1.0, 0.5)

    def __init__(
        self, *, width: int, stride: float = 16.0, norm: str = "batch", factors: Sequence[float] = FACTORS
    ) -> None:
        super().__init__()
        self.factors = tuple(factors)
        self.widths = (width,) * len(self.factors)
        self.strides = tuple(stride / factor for factor in self.factors)
        if 4.0 in self.factors:
            self.four_times = nn.Sequential(
                nn.ConvTranspose2d(width, width, 2, stride=2),
                make_norm(norm, width),
                nn.GELU(),
                nn.ConvTranspose2d(width, width, 2, stride=2),
            )
        if 2.0 in self.factors:
            self.twice = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.halve = nn.MaxPool2d(2, 2)

    def forward(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """One map (B, C, Y, X) a level -> as many maps, finest first.

        Raises:
            ValueError: There is not one tap a level.
        """
        if len(taps) != len(self.factors):
            raise ValueError(f"{len(taps)} taps for a pyramid of {len(self.factors)} levels; name one block a level")
        return [self._resize(tap, factor) for tap, factor in zip(taps, self.factors, strict=True)]

    def _resize(self, tap_BCYX: Tensor, factor: float) -> Tensor:
        if factor == 1.0:
            return tap_BCYX
        resized: Tensor = getattr(self, {4.0: "four_times", 2.0: "twice", 0.5: "halve"}[factor])(tap_BCYX)
        return resized


class PlainPyramid(nn.Module):
    """One map of a plain vision transformer -> levels of strides 4, 8, 16, 32: no taps, no top-down path, no biases.

    Source: the simple feature pyramid of ViTDet (arXiv:2203.16527) as RO-ViT's successor DITO (arXiv:2310.00161) has it
    in its released code: norms over channels, and the coarsest level is pooled ahead of its convolutions.

    Args:
        width: Channels of the map, whose stride is 16.
        channels: Channels of every level.
        levels: First and last level, within 2 to 5; cells of level l have 2^l pixels.
        inner: Channels within the upsampling to level 3 and half-way to level 2, and at its end; half and a quarter of
            the width if not given.
        eps: Of the norms.
    """

    def __init__(
        self, *, width: int, channels: int, levels: tuple[int, int] = (2, 5), inner: tuple[int, int] | None = None,
        eps: float = 1e-6,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 2 <= levels[0] <= levels[1] <= 5:
            raise ValueError(f"levels={levels} must ascend within 2 to 5, which one map of stride 16 is brought to")
        half, quarter = inner or (width // 2, width // 4)
        self.levels = levels
        rescale: dict[int, tuple[nn.Module, int]] = {
            2: (
                nn.Sequential(
                    nn.ConvTranspose2d(width, half, 2, stride=2, bias=False), ChannelNorm(half, eps=eps), nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2, bias=False),
                ),
                quarter,
            ),
            3: (nn.ConvTranspose2d(width, half, 2, stride=2, bias=False), half),
            4: (nn.Identity(), width),
            5: (nn.MaxPool2d(2, 2), width),
        }  # fmt: skip
        chosen = [rescale[level] for level in range(levels[0], levels[1] + 1)]
        self.rescale = nn.ModuleList([module for module, _ in chosen])
        self.output = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, channels, 1, bias=False), ChannelNorm(channels, eps=eps),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False), ChannelNorm(channels, eps=eps),
            )
            for _, inputs in chosen
        )  # fmt: skip

    def forward(self, map_BCYX: Tensor) -> list[Tensor]:
        """One map -> the levels, finest first."""
        return [output(rescale(map_BCYX)) for rescale, output in zip(self.rescale, self.output, strict=True)]


class PicturePyramid(nn.Module):
    """Taps of a plain vision transformer -> maps at a quarter, half, one and two patches of stride 16.

    Source: the simple feature pyramid of ViTDet (arXiv:2203.16527). Two strided convolutions on the picture join the
    finest level, since patches alone know no edges.

    Args:
        width: Channels of a tap.
        taps: How many taps there are.
        channels: Channels of every level.
    """

    def __init__(self, *, width: int, taps: int, channels: int) -> None:
        super().__init__()
        self.widths = (channels,) * 4
        self.merge = nn.Sequential(nn.Conv2d(width * taps, channels, 1), nn.GroupNorm(1, channels))
        self.twice = nn.Sequential(nn.ConvTranspose2d(channels, channels, 2, stride=2), nn.GroupNorm(1, channels))
        self.four_times = nn.Sequential(nn.GELU(), nn.ConvTranspose2d(channels, channels, 2, stride=2))
        self.edges = nn.Sequential(
            nn.Conv2d(3, channels // 2, 4, stride=2, padding=1),
            nn.GroupNorm(1, channels // 2),
            nn.GELU(),
            nn.Conv2d(channels // 2, channels, 4, stride=2, padding=1),
        )

    def forward(self, taps: Sequence[Tensor], images_B3HW: Tensor) -> list[Tensor]:
        """Taps (B, C, Y, X) and the normalised images behind them -> four levels, finest first."""
        middle = self.merge(torch.cat([_unit_variance(tap) for tap in taps], dim=1))
        half = self.twice(middle)
        finest = self.four_times(half)
        edges = F.interpolate(
            self.edges(images_B3HW), size=finest.shape[-2:], mode="bilinear", align_corners=False
        )  # the same size already where a patch has 16 pixels
        return [finest + edges, half, middle, F.avg_pool2d(middle, 2)]


def _unit_variance(tap_BCYX: Tensor) -> Tensor:
    """Layer norm over channels without parameters: residual streams of different depth differ in scale."""
    return F.layer_norm(tap_BCYX.permute(0, 2, 3, 1), tap_BCYX.shape[1:2]).permute(0, 3, 1, 2)


def pyramid_of(stages: Sequence[tuple[int, int]], *, norm: str = "batch") -> StagePyramid | TapPyramid:
    """What brings taps of a trunk to a pyramid.

    Args:
        stages: Width and stride of all that can be tapped.
        norm: See `TapPyramid`.
    """
    widths, strides = zip(*stages, strict=True)
    if len(set(strides)) > 1:
        return StagePyramid(widths=widths, strides=strides)
    return TapPyramid(width=widths[-1], stride=strides[-1], norm=norm)


def picture_pyramid_of(stages: Sequence[tuple[int, int]], *, channels: int) -> StagePyramid | PicturePyramid:
    """`pyramid_of` for decoders that draw masks, which need the picture's edges beside taps of one stride."""
    widths, strides = zip(*stages, strict=True)
    if len(set(strides)) > 1:
        return StagePyramid(widths=widths, strides=strides)
    return PicturePyramid(width=widths[-1], taps=len(widths), channels=channels)


class FeaturePyramid(nn.Module):
    """FPN (arXiv:1612.03144) with a norm after every convolution, and one more level at half the coarsest.

    Args:
        inputs: Channels of each level, finest first.
        channels: Channels that go out.
        norm: Row of `NORMS`.
        extra: Whether there is one more level.
    """

    def __init__(self, *, inputs: Sequence[int], channels: int = 256, norm: str = "batch", extra: bool = True) -> None:
        super().__init__()
        self.extra = extra
        self.lateral = nn.ModuleList([ConvNorm(width, channels, kernel=1, norm=norm, relu=False) for width in inputs])
        self.output = nn.ModuleList([ConvNorm(channels, channels, kernel=3, norm=norm, relu=False) for _ in inputs])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map a level, finest first -> one more than came in, where wanted."""
        merged: list[Tensor] = [lateral(level) for lateral, level in zip(self.lateral, maps, strict=True)]
        for coarse, fine in pairwise(range(len(merged) - 1, -1, -1)):
            merged[fine] = merged[fine] + F.interpolate(merged[coarse], size=merged[fine].shape[-2:], mode="nearest")
        levels = [output(level) for output, level in zip(self.output, merged, strict=True)]
        return [*levels, F.max_pool2d(levels[-1], 1, stride=2)] if self.extra else levels
