"""A convolutional backbone whole in this file: three stages, a mean, a linear head; no attention, no class token.

One line makes it a dense CLIP: `TRUNKS[ToyConv] = ToyConvTrunk`.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn

from clipself.backbones.conv import ConvTrunk
from clipself.backbones.dense_clip import DenseCLIP, TowerIdentity
from clipself.backbones.loading import build_clip
from clipself.backbones.tokens import to_map
from clipself.backbones.trunk import Stage

STAGES = ((16, 4), (24, 2), (32, 2))
"""Channels of each stage, and how many times coarser than the one ahead."""


class ToyConv(nn.Module):
    """The stock tower: it knows nothing of dense maps."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        widths = (3, *(width for width, _ in STAGES))
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, step, stride=step), nn.BatchNorm2d(width), nn.GELU())
            for before, (width, step) in zip(widths, STAGES, strict=False)
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Image embeddings."""
        for stage in self.stages:
            images = stage(images)
        embedded: Tensor = self.head(images.mean((2, 3)))
        return embedded


class ToyConvTrunk(ConvTrunk):
    """What the package needs to know of it."""

    pools_by = "mean"

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.tower, self.trunk = visual, visual.trunk
        self.stage_modules = list(visual.trunk.stages)
        self.stages = tuple(Stage(width=width, stride=4 << place) for place, (width, _) in enumerate(STAGES))
        self.patch_size = self.stages[-1].stride
        self.native_grid = (2, 2)
        self.embed_dim = int(visual.trunk.head.out_features)

    def read_tap(self, tap_BCYX: Tensor) -> Tensor:
        """Each cell through the head."""
        return to_map(self.trunk.head(tap_BCYX.flatten(2).mT), (tap_BCYX.shape[2], tap_BCYX.shape[3]))

    def pool_map(self, map_BCYX: Tensor) -> Tensor:
        """The mean through the head."""
        embedded: Tensor = self.trunk.head(map_BCYX.mean((2, 3)))
        return embedded


@register_model  # type: ignore[untyped-decorator]
def clipself_toy_conv(pretrained: bool = False, **kwargs: Any) -> ToyConv:
    """For open_clip's configurations."""
    del pretrained
    return ToyConv(num_classes=kwargs["num_classes"])


def toy_conv_clip(seed: int = 0) -> DenseCLIP:
    """A CLIP on it, native 32 px, joint dimension 32; needs the one line first."""
    vision = {"image_size": 32, "timm_model_name": "clipself_toy_conv", "timm_pool": "avg", "timm_proj": None}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text, "custom_text": True}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        identity = TowerIdentity(image=f"toy-conv@{seed}", text=f"toy-conv@{seed}")
        return build_clip("toy-conv", config, identity=identity, random=True).eval()
