"""Blocks of an upsampling decoder, by the published names of CAT-Seg."""

import torch
from torch import Tensor, nn

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

    def forward(self, maps_MCYX: Tensor, guidance_MGyx: Tensor) -> Tensor:
        """Maps at (Y, X) and guidance at (2 Y, 2 X) -> maps at (2 Y, 2 X)."""
        out: Tensor = self.conv(torch.cat([self.up(maps_MCYX), guidance_MGyx], dim=1))
        return out
