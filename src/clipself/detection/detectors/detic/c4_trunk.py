"""A ResNet whose fourth map is the detector's, and whose last stage reads regions: Faster R-CNN's "C4".

Names of its parameters are those of Detectron2, whose released files fit as they are.
"""

from collections.abc import Mapping
from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from clipself.detection.detectors.detic.settings import C4Settings

BLOCKS: Final[Mapping[int, tuple[int, int, int, int]]] = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Depth -> blocks of each stage. Source: ResNet (arXiv:1512.03385), Table 1."""


class FrozenConv(nn.Conv2d):
    """Convolution without a bias, then a batch norm that neither learns nor counts."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = FrozenBatchNorm2d(outputs)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, C', Y', X')."""
        normed: Tensor = self.norm(super().forward(input))
        return normed


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1, beside a shortcut.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        width: Channels of the 3x3 convolution.
        stride: Of the block.
        stride_first: Whether the first 1x1 convolution has the stride, as in the models of MSRA; else the 3x3 one.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, stride: int, stride_first: bool) -> None:
        super().__init__()
        self.shortcut = FrozenConv(inputs, outputs, 1, stride=stride) if inputs != outputs or stride > 1 else None
        first, second = (stride, 1) if stride_first else (1, stride)
        self.conv1 = FrozenConv(inputs, width, 1, stride=first)
        self.conv2 = FrozenConv(width, width, 3, stride=second)
        self.conv3 = FrozenConv(width, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, C', Y', X')."""
        kept: Tensor = features if self.shortcut is None else self.shortcut(features)
        return F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(features))))) + kept)


def make_stage(number: int, settings: C4Settings) -> nn.Sequential:
    """One of the four stages, 0 the finest."""
    outputs = settings.width << number
    inputs = settings.stem_width if number == 0 else outputs // 2
    return nn.Sequential(
        *[
            Bottleneck(
                inputs if place == 0 else outputs, outputs, width=settings.bottleneck << number,
                stride=2 if place == 0 and number else 1, stride_first=settings.stride_first,
            )
            for place in range(BLOCKS[settings.depth][number])
        ]
    )  # fmt: skip


class Stem(nn.Module):
    """7x7 at stride 2, then a pooling at stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = FrozenConv(3, width, 7, stride=2)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Pixels -> a map of stride 4."""
        return F.max_pool2d(F.relu(self.conv1(images_B3HW)), kernel_size=3, stride=2, padding=1)


class C4Trunk(nn.Module):
    """Stem and three stages: pixels -> one map of stride 16.

    Args:
        settings: Depth, widths and strides; its first stages do not learn.
    """

    stride = 16

    def __init__(self, settings: C4Settings) -> None:
        super().__init__()
        self.stem = Stem(settings.stem_width)
        self.res2, self.res3, self.res4 = (make_stage(number, settings) for number in range(3))
        self.width = settings.width << 2
        for part in [self.stem, self.res2, self.res3, self.res4][: 1 + settings.frozen_stages]:
            part.requires_grad_(False)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / 16, W / 16)."""
        features: Tensor = self.res4(self.res3(self.res2(self.stem(images_B3HW))))
        return features
