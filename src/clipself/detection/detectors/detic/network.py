"""Detic's OV-LVIS network: trunk, pyramid, CenterNet proposals, a cascade that compares regions with texts, masks."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from clipself.detection.detectors.detic.cascade import CascadeHeads
from clipself.detection.detectors.detic.centernet import CenterNetHead, CentreMaps
from clipself.detection.detectors.detic.pyramid import CoarserPyramid
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.detectors.trunk import DetectorTrunk
from clipself.detection.protocol import Found
from clipself.ops.padding import pad_to_multiple

STRIDES: Final = (8, 16, 32)
"""Of the trunk's maps; a trunk of another patch has others, and says so."""
POOLED_LEVELS: Final = len(STRIDES)
"""Levels of the pyramid that regions are read from: those of the trunk."""


class CascadeNetwork(nn.Module):
    """Source: Detic (arXiv:2201.02605), Sec. 4.1, on CenterNet2 (arXiv:2103.07461).

    Args:
        settings: Those of `centernet` and `cascade`, and of masks and scoring.
        texts_CD: Text embeddings of the classes, of any length.
        trunk: What reads the pictures, with maps of three strides.
    """

    def __init__(self, settings: DeticSettings, texts_CD: Tensor, *, trunk: DetectorTrunk) -> None:
        super().__init__()
        self.trunk = trunk
        last = trunk.strides[-1]
        self.strides = (*trunk.strides, 2 * last, 4 * last)
        self.pyramid = CoarserPyramid(inputs=self.trunk.widths, channels=settings.channels)
        self.proposer = CenterNetHead(channels=settings.channels, strides=self.strides, settings=settings.centernet)
        self.cascade = CascadeHeads(
            channels=settings.channels, texts_CD=texts_CD, settings=settings, strides=self.trunk.strides
        )
        self.settings = settings

    @property
    def settings(self) -> DeticSettings:
        """Its constants; those that need no training may be replaced, and its parts follow."""
        return self._settings

    @settings.setter
    def settings(self, settings: DeticSettings) -> None:
        self._settings = settings
        self.proposer.settings, self.cascade.own = settings.centernet, settings.cascade

    def read_images(self, images_B3HW: Tensor) -> list[Tensor]:
        """Normalised images of any size -> the pyramid, finest first; sides are padded to whole cells."""
        return self.pyramid(self.trunk(pad_to_multiple(images_B3HW, self.multiple)))  # type: ignore[no-any-return]

    @property
    def multiple(self) -> int:
        """What padded sides of images are multiples of."""
        return max(self.trunk.multiple, self.trunk.strides[-1])

    def grids(self, images_B3HW: Tensor) -> list[tuple[int, int]]:
        """Rows and columns of each level of the pyramid of these images."""
        rows, cols = (-(-side // self.multiple) * self.multiple for side in images_B3HW.shape[-2:])
        return [(-(-rows // stride), -(-cols // stride)) for stride in self.strides]

    @torch.no_grad()
    def find(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Finds the classes; `sizes` are height and width of each image's own pixels."""
        maps = self.read_images(images_B3HW)
        found: CentreMaps = self.proposer(maps)
        return self.cascade.detect(maps, self.proposer.propose(found), sizes, self.settings)
