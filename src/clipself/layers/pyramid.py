"""From taps of a plain vision transformer, all of one size, to a feature pyramid."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from clipself.layers.norms import ConvNorm, make_norm


class TapPyramid(nn.Module):
    """Four taps at one stride to four strides: x4, x2, as it is, half.

    Source: F-ViT (CLIPSelf, detection), after ViTDet (arXiv:2203.16527).

    Args:
        width: Channels of the taps.
        norm: Norm between the two transposed convolutions of the finest level.
    """

    FACTORS = (4.0, 2.0, 1.0, 0.5)

    def __init__(self, *, width: int, norm: str = "batch") -> None:
        super().__init__()
        self.four_times = nn.Sequential(
            nn.ConvTranspose2d(width, width, 2, stride=2),
            make_norm(norm, width),
            nn.GELU(),
            nn.ConvTranspose2d(width, width, 2, stride=2),
        )
        self.twice = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.halve = nn.MaxPool2d(2, 2)

    def forward(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """Four maps (B, C, Y, X) -> four maps, finest first.

        Raises:
            ValueError: There are not four taps.
        """
        if len(taps) != len(self.FACTORS):
            raise ValueError(f"{len(taps)} taps for a pyramid of {len(self.FACTORS)} levels; name one block a level")
        return [self.four_times(taps[0]), self.twice(taps[1]), taps[2], self.halve(taps[3])]


class FeaturePyramid(nn.Module):
    """FPN (arXiv:1612.03144) with a norm after every convolution, and one more level at half the coarsest.

    Args:
        inputs: Channels of each level, finest first.
        channels: Channels that go out.
        norm: Row of `NORMS`.
    """

    def __init__(self, *, inputs: Sequence[int], channels: int = 256, norm: str = "batch") -> None:
        super().__init__()
        self.lateral = nn.ModuleList([ConvNorm(width, channels, kernel=1, norm=norm, relu=False) for width in inputs])
        self.output = nn.ModuleList([ConvNorm(channels, channels, kernel=3, norm=norm, relu=False) for _ in inputs])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map a level, finest first -> one more than came in."""
        merged: list[Tensor] = [lateral(level) for lateral, level in zip(self.lateral, maps, strict=True)]
        for coarse, fine in pairwise(range(len(merged) - 1, -1, -1)):
            merged[fine] = merged[fine] + F.interpolate(merged[coarse], size=merged[fine].shape[-2:], mode="nearest")
        levels = [output(level) for output, level in zip(self.output, merged, strict=True)]
        return [*levels, F.max_pool2d(levels[-1], 1, stride=2)]
