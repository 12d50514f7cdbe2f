"""The pyramid of CenterNet2: FPN on three stages, two coarser levels by strided convolutions."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from clipself.layers.pyramid import FeaturePyramid


class CoarserPyramid(nn.Module):
    """Three levels (FPN, arXiv:1612.03144) and p6, p7 from the coarsest of them (FCOS, arXiv:1904.01355).

    Args:
        inputs: Channels of each stage, finest first.
        channels: Channels of every level.
    """

    def __init__(self, *, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.levels = FeaturePyramid(inputs=inputs, channels=channels, norm="none", extra=False)
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        for module in (self.p6, self.p7):
            nn.init.kaiming_uniform_(module.weight, a=1)
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map a stage, finest first -> two more than came in."""
        levels: list[Tensor] = self.levels(maps)
        p6 = self.p6(levels[-1])
        return [*levels, p6, self.p7(F.relu(p6))]
