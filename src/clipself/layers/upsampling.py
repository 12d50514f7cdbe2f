"""Blocks of an upsampling decoder, by the published names of CAT-Seg."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.ops.axes import unfold_axis

CHANNELS_OF_A_GROUP = 16
"""Channels that a group norm takes together."""


class DoubleConv(nn.Module):
    """Twice: 3 x 3 convolution without bias, group norm, ReLU.

    Args:
        channels: Width of the input.
        out_channels: Width of the output.
    """

    def __init__(self, *, channels: int, out_channels: int) -> None:
        super().__init__()
        groups = max(1, out_channels // CHANNELS_OF_A_GROUP)
        self.double_conv = nn.Sequential(
            nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(groups, out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(groups, out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Keeps rows and columns."""
        out: Tensor = self.double_conv(maps)
        return out


class GuidedUpsample(nn.Module):
    """Doubles the resolution and convolves the result together with a guiding map.

    Args:
        channels: Width of the input.
        guidance_channels: Width of the guidance.
        out_channels: Width of the output.
    """

    def __init__(self, *, channels: int, guidance_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels - guidance_channels, kernel_size=2, stride=2)
        self.conv = DoubleConv(channels=channels, out_channels=out_channels)

    def forward(self, maps_MCYX: Tensor, guidance_Bgyx: Tensor) -> Tensor:
        """Maps at (Y, X) and guidance at (2 Y, 2 X) -> maps at (2 Y, 2 X).

        The transposed convolution and the first one behind it are linear with nothing in between: together they are one
        transposed convolution of 4 x 4. What guidance and bias add to it is computed once for all maps of an image.

        Args:
            maps_MCYX: The maps: M / B of the first image, then those of the next.
            guidance_Bgyx: The guiding map of each image.
        """
        first, *rest = self.conv.double_conv
        kernel, between, bias = cast(nn.Conv2d, first).weight, self.up.out_channels, cast(Tensor, self.up.bias)
        both = F.conv2d(self.up.weight, kernel[:, :between], padding=2)
        up = F.conv_transpose2d(maps_MCYX, both, stride=2, padding=1)
        flat = bias.to(guidance_Bgyx)[:, None, None].expand(guidance_Bgyx.shape[0], -1, *guidance_Bgyx.shape[2:])
        guided = F.conv2d(torch.cat([flat, guidance_Bgyx], dim=1), kernel, padding=1)
        maps = (unfold_axis(up, 0, (guided.shape[0], -1)) + guided[:, None]).flatten(0, 1)
        for layer in rest:
            maps = layer(maps)
        return maps
