"""The second backbone of CAT-Seg's first release, whose maps guide the aggregator: one table.

Source: CAT-Seg (arXiv:2303.11797), first release: ResNet-101 beside B, Swin-B of 384 px beside L, H and G.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn
from torchvision.models import resnet101
from torchvision.ops import FrozenBatchNorm2d

from clipself.backbones.swin import SWIN_B, SwinMaps
from clipself.backbones.weights import read_state_dict
from clipself.ops.pixels import IMAGENET_MEAN, IMAGENET_STD, plain_pixels
from clipself.segmentation.published_clip import load_all

STRIDE: Final = 16
"""Of the map that guides at the patch grid."""


class Guidance(nn.Module):
    """Maps at once, twice and four times a patch grid.

    Args:
        grid: Patches along a side of CLIP's square; the backbone sees a square of `STRIDE` times as many pixels.

    Attributes:
        channels: Of the three maps, the coarsest first.
        learns: Whether it learns where CLIP does, at the same share of the rate.
    """

    channels: tuple[int, int, int]
    learns: bool

    def __init__(self, *, grid: int) -> None:
        super().__init__()
        self.side = grid * STRIDE

    def forward(self, images_B3SS: Tensor) -> list[Tensor]:
        """Images in CLIP's normalisation -> maps, the coarsest first."""
        plain = plain_pixels(images_B3SS, mean=OPENAI_DATASET_MEAN, std=OPENAI_DATASET_STD)
        mean, std = (images_B3SS.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        images = (plain - mean) / std
        if images.shape[-1] != self.side:
            images = F.interpolate(images, size=(self.side, self.side), mode="bilinear", align_corners=False)
        return self.maps(images)

    def maps(self, images_B3SS: Tensor) -> list[Tensor]:
        """Images in ImageNet's normalisation -> the same."""
        raise NotImplementedError

    def start_from(self, weights: str | Path) -> None:
        """Takes the file of a released classifier.

        Raises:
            ValueError: The file does not fit.
        """
        raise NotImplementedError


class ResNetGuidance(Guidance):
    """ResNet-101 without its last stage, batch norm frozen; torchvision's names."""

    channels = (1024, 512, 256)
    learns = True

    def __init__(self, *, grid: int) -> None:
        super().__init__(grid=grid)
        self.network = resnet101(weights=None, norm_layer=FrozenBatchNorm2d)
        del self.network.layer4
        self.network.fc = nn.Identity()

    def maps(self, images_B3SS: Tensor) -> list[Tensor]:
        """See `Guidance`."""
        network = self.network
        maps = network.maxpool(network.relu(network.bn1(network.conv1(images_B3SS))))
        fine = network.layer1(maps)
        middle = network.layer2(fine)
        return [network.layer3(middle), middle, fine]

    def start_from(self, weights: str | Path) -> None:
        """Takes torchvision's file; its last stage and its classes stay behind."""
        held = {
            name: value for name, value in read_state_dict(weights).items() if not name.startswith(("layer4", "fc"))
        }
        held = {name: value for name, value in held.items() if not name.endswith("num_batches_tracked")}
        load_all(self.network, held, source=str(weights))


class SwinGuidance(Guidance):
    """Swin-B of windows of 12 without its last stage, frozen; the names of the released classifiers."""

    channels = (512, 256, 128)
    learns = False

    def __init__(self, *, grid: int, sizes: Mapping[str, Any] | None = None) -> None:
        super().__init__(grid=grid)
        stages = {"depths": SWIN_B["depths"][:3], "heads": SWIN_B["heads"][:3], "window": 12}
        self.network = SwinMaps(**{**SWIN_B, **stages, **(sizes or {})}, out_stages=(0, 1, 2))

    def maps(self, images_B3SS: Tensor) -> list[Tensor]:
        """See `Guidance`."""
        fine, middle, coarse = self.network(images_B3SS)
        return [coarse, middle, fine]

    def start_from(self, weights: str | Path) -> None:
        """Takes the file of a released classifier; its last stage and its classes stay behind."""
        self.network.start_from(str(weights))


APPEARANCES: Final[Mapping[str, type[ResNetGuidance | SwinGuidance]]] = {
    "resnet101": ResNetGuidance,
    "swin_b": SwinGuidance,
}
"""Name -> what guides beside CLIP."""
