"""The second backbone of CAT-Seg's first release: a ResNet-101 whose maps guide the aggregator.

Source: CAT-Seg (arXiv:2303.11797), first release, B variant.
"""

from typing import Final

import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn
from torchvision.models import resnet101
from torchvision.ops import FrozenBatchNorm2d

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
STRIDE: Final = 16
"""Of the map that guides at the patch grid."""


class ResNetGuidance(nn.Module):
    """Maps of strides 16, 8 and 4, of 1024, 512 and 256 channels, for a grid whose side is 1/16 of the input.

    Args:
        image_size: Side of the square that it sees, in pixels.
    """

    def __init__(self, *, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.network = resnet101(weights=None, norm_layer=FrozenBatchNorm2d)
        del self.network.layer4
        self.network.fc = nn.Identity()

    def forward(self, images_B3SS: Tensor) -> list[Tensor]:
        """Images in CLIP's normalisation -> maps, the coarsest first."""
        old_mean, old_std, mean, std = (
            images_B3SS.new_tensor(values)[:, None, None]
            for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, IMAGENET_MEAN, IMAGENET_STD)
        )
        images = (images_B3SS * old_std + old_mean - mean) / std
        side = self.image_size // STRIDE * STRIDE
        if images.shape[-1] != side:
            images = F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
        network = self.network
        maps = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        fine = network.layer1(maps)
        middle = network.layer2(fine)
        return [network.layer3(middle), middle, fine]
