"""timm's convolutional towers inside open_clip's `TimmModel`: ConvNeXt, and the FastViT of MobileCLIP."""

from typing import Any

from torch import Tensor, nn

from clipself.backbones.conv import ConvTrunk
from clipself.backbones.tokens import to_map
from clipself.backbones.trunk import Stage


class TimmConvTrunk(ConvTrunk):
    """Stem, stages, what follows the last of them, and a head over the mean.

    A cell of the dense map is what the tower's own head makes of that cell alone, as a picture of one pixel. Source:
    FC-CLIP (arXiv:2308.02487), for ConvNeXt.
    """

    pools_by = "mean"

    def __init__(self, visual: Any) -> None:
        super().__init__()
        trunk = self.trunk = visual.trunk
        self.visual = self.tower = visual
        if trunk.head.global_pool.pool_type != "avg":
            raise ValueError("no dense readout for a convolutional tower that pools otherwise than by its mean")
        self.stage_modules = list(trunk.stages)
        self.stages = tuple(
            Stage(width=int(one["num_chs"]), stride=int(one["reduction"])) for one in trunk.feature_info
        )
        self.patch_size = self.stages[-1].stride
        height, width = visual.image_size
        self.native_grid = (int(height) // self.patch_size, int(width) // self.patch_size)
        heads = [part for part in (*trunk.head.modules(), *visual.head.modules()) if isinstance(part, nn.Linear)]
        self.embed_dim = int(heads[-1].out_features)

    @property
    def last_layers(self) -> nn.Module:
        """What stands between the last stage and the pool."""
        raise NotImplementedError

    def stem(self, images_B3HW: Tensor) -> Tensor:
        """The tower's own."""
        features: Tensor = self.trunk.stem(images_B3HW)
        return features

    def read_tap(self, tap_BCYX: Tensor) -> Tensor:
        """Map of the last stage -> each cell through the tower's own head."""
        finished = self.last_layers(tap_BCYX)
        batch, channels, rows, cols = finished.shape
        cells = finished.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
        joint: Tensor = self.visual.head(self.trunk.forward_head(cells))
        return to_map(joint.reshape(batch, rows * cols, -1), (rows, cols))

    def pool_map(self, map_BCYX: Tensor) -> Tensor:
        """The mean through the tower's own head."""
        pooled: Tensor = self.visual.head(self.trunk.forward_head(self.last_layers(map_BCYX)))
        return pooled


class ConvNeXtTrunk(TimmConvTrunk):
    """ConvNeXt: strides 4 to 32; its head normalises the mean."""

    @property
    def last_layers(self) -> nn.Module:
        """A norm where the tower has one ahead of the pool."""
        layers: nn.Module = self.trunk.norm_pre
        return layers


class FastVitTrunk(TimmConvTrunk):
    """FastViT: strides 4 to 32, or to 64 with five stages; a last convolution sees neighbours, and the whole map."""

    def __init__(self, visual: Any) -> None:
        super().__init__(visual)
        self.pooling_modules = [self.last_layers]

    @property
    def last_layers(self) -> nn.Module:
        """The last convolution, with its squeeze and excitation."""
        layers: nn.Module = self.trunk.final_conv
        return layers
