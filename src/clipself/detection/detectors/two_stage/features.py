"""The frozen CLIP as a detector sees it: taps for the pyramid and the dense map for the second opinion."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from clipself.backbones.dense_clip import DenseCLIP, to_map
from clipself.backbones.resnet import ResNetTrunk
from clipself.ops.levels import join_boxes

REGIONS_AT_ONCE = 64
"""Regions that an attention pool looks at in one go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What one pass of the frozen backbone gives.

    Attributes:
        taps: Maps (B, C, Y, X) after the tapped blocks.
        dense: Dense map (B, D, Y, X) of unit length; None while training does not need it.
    """

    taps: tuple[Tensor, ...]
    dense: Tensor | None


class FrozenClip(nn.Module):
    """A dense CLIP that neither learns nor changes mode; one pass gives the taps and the dense map.

    Source: F-ViT (CLIPSelf, detection). The last tap is the last block as the readout runs it, ahead of the final norm;
    the dense map is that tap through the final norm and the projection. A ResNet's taps are its stages, as in F-VLM.

    Args:
        clip: The backbone; its parameters stop learning.
        taps: 0-based blocks, ascending; the last must be the trunk's last. A ResNet's are always its stages.
        readout: How the last block runs.

    Raises:
        ValueError: The last tap is not the last block.
    """

    def __init__(self, clip: DenseCLIP, *, taps: tuple[int, ...], readout: str = "value") -> None:
        super().__init__()
        last = clip.num_taps - 1
        if clip.trunk.stage_strides:
            taps = tuple(range(clip.num_taps))
        if not taps or taps[-1] != last:
            raise ValueError(
                f"taps {taps} must end with the last block {last} of {clip.name}, which the dense map is made of"
            )
        self.clip = clip.eval().requires_grad_(False)
        self.tapped, self.readout = taps, readout

    def train(self, mode: bool = True) -> "FrozenClip":
        """Stays in evaluation mode whatever is asked."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def forward(self, images_B3HW: Tensor, *, dense: bool = True) -> Features:
        """Normalised images -> taps, and the dense map where wanted."""
        taps = self.clip.taps(images_B3HW, self.tapped, readout=self.readout)
        return Features(taps=tuple(taps), dense=self.read_dense(taps[-1]) if dense else None)

    def read_dense(self, last_tap_BCYX: Tensor) -> Tensor:
        """Last tap -> dense map (B, D, Y, X) of unit length."""
        grid = (last_tap_BCYX.shape[2], last_tap_BCYX.shape[3])
        patches_BPD = self.clip.trunk.read_tap(last_tap_BCYX)
        return to_map(F.normalize(patches_BPD, dim=-1), grid)

    @torch.no_grad()
    def embed_regions(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the frozen CLIP says about regions: RoIAlign of one bin on the dense map.

        Of a ResNet, RoIAlign of its last stage to the grid of pre-training, then its own attention pool. Source: F-VLM
        (arXiv:2209.15639).

        Args:
            features: Of this backbone, with the dense map.
            boxes: (N, 4) in canvas pixels for each image.

        Returns:
            Region embeddings (R, D), not normalised.
        """
        rows_R5, trunk = join_boxes(boxes), self.clip.trunk
        how = {"spatial_scale": 1.0 / trunk.patch_size, "sampling_ratio": -1, "aligned": True}
        if not isinstance(trunk, ResNetTrunk):
            assert features.dense is not None
            regions_RD: Tensor = roi_align(features.dense.float(), rows_R5, 1, **how)[..., 0, 0]
            return regions_RD
        last = features.taps[-1].float()
        if not len(rows_R5):
            return last.new_zeros(0, trunk.embed_dim)
        pooled = [
            trunk.pool_map(roi_align(last, some_R5, trunk.native_grid, **how))
            for some_R5 in torch.split(rows_R5, REGIONS_AT_ONCE)
        ]
        return torch.cat(pooled)
