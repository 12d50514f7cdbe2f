"""The frozen CLIP as a detector sees it: taps for the pyramid and the dense map for the second opinion."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.trunk import ClipReading
from clipself.detection.region_prompt.regions import ClipMaps, clip_regions, whole_map
from clipself.ops.levels import join_boxes
from clipself.ops.region_means import region_means

REGIONS_AT_ONCE = 64
"""Regions that a tower's own pooling looks at in one go."""


class FrozenClip(nn.Module):
    """A dense CLIP that neither learns nor changes mode; one pass gives the taps and the dense map.

    Source: F-ViT (CLIPSelf, detection). The last tap is the last block as the readout runs it, ahead of the final norm;
    the dense map is that tap through the final norm and the projection. Where the stages are a pyramid, as a ResNet's,
    they are the taps, as in F-VLM.

    Args:
        clip: The backbone; its parameters stop learning.
        taps: 0-based blocks, ascending; the last must be the trunk's last. Of a pyramid all stages are taken.
        readout: How the last block runs.
        prompted: Whether regions are pooled with a region prompt; see `clipself.detection.region_prompt`.

    Raises:
        ValueError: The last tap is not the last block, or a prompt is asked for where there is no attention pool.
    """

    def __init__(
        self, clip: DenseCLIP, *, taps: tuple[int, ...], readout: str = "value", prompted: bool = False
    ) -> None:
        super().__init__()
        last = clip.num_taps - 1
        if clip.trunk.is_pyramid:
            taps = tuple(range(last + 1))
        if not taps or taps[-1] != last:
            raise ValueError(
                f"taps {taps} must end with the last block {last} of {clip.name}, which the dense map is made of"
            )
        self.clip = clip.eval().requires_grad_(False)
        self.tapped, self.readout = taps, readout
        self.regions = clip_regions(clip) if prompted else None
        if self.regions is not None and self.regions.prompt is None:
            raise ValueError(f"a region prompt is of a CLIP ResNet, and {clip.name} pools otherwise; leave it out")

    def train(self, mode: bool = True) -> "FrozenClip":
        """Stays in evaluation mode whatever is asked."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def forward(self, images_B3HW: Tensor, *, dense: bool = True) -> ClipReading:
        """Normalised images -> taps, and the dense map of unit length where wanted."""
        return self.clip.read(images_B3HW, taps=self.tapped, dense=dense, readout=self.readout)

    def read_dense(self, last_tap_BCYX: Tensor) -> Tensor:
        """Last tap -> dense map (B, D, Y, X) of unit length."""
        return F.normalize(self.clip.trunk.read_tap(last_tap_BCYX), dim=1)

    @torch.no_grad()
    def embed_regions(self, features: ClipReading, boxes: Sequence[Tensor] | Tensor) -> Tensor:
        """What the frozen CLIP says about regions: RoIAlign of one bin on the dense map.

        Of a tower that pools its last stage, RoIAlign of that to the grid of pre-training, then its own pooling.
        Source: F-VLM (arXiv:2209.15639). With a prompt, as it was tuned: the last stage region by region, as CORA does.

        Args:
            features: Of this backbone, with the dense map.
            boxes: (N, 4) in canvas pixels for each image; or all of them as `join_boxes` gives them.

        Returns:
            Region embeddings (R, D), not normalised.
        """
        if self.regions is not None:
            *_, inner, last = features.taps
            stride = self.clip.trunk.stages[-2].stride
            height, width = (stride * side for side in inner.shape[2:])
            shares = [one / one.new_tensor([width, height] * 2) for one in boxes]
            return self.regions.embed(ClipMaps(inner=whole_map(inner), last=whole_map(last)), shares)
        rows_R5, trunk = join_boxes(boxes), self.clip.trunk
        how = {"spatial_scale": 1.0 / trunk.patch_size, "sampling_ratio": -1, "aligned": True}
        if trunk.pools_by == "class token":
            assert features.dense is not None
            regions_RD: Tensor
            if torch.compiler.is_exporting():
                regions_RD = roi_align(features.dense.float(), rows_R5, 1, **how)[..., 0, 0]
            else:
                regions_RD = region_means(features.dense.float(), rows_R5, spatial_scale=1.0 / trunk.patch_size)
            return regions_RD
        last = features.taps[-1].float()
        if torch.compiler.is_exporting():
            return trunk.pool_map(roi_align(last, rows_R5, trunk.native_grid, **how))
        if not len(rows_R5):
            return last.new_zeros(0, trunk.embed_dim)
        pooled = [
            trunk.pool_map(roi_align(last, some_R5, trunk.native_grid, **how))
            for some_R5 in torch.split(rows_R5, REGIONS_AT_ONCE)
        ]
        return torch.cat(pooled)
