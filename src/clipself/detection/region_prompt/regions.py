"""How a frozen CLIP sees boxes of padded pictures: maps once a batch, embeddings of any boxes after that."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.resnet import ResNetTrunk
from clipself.backbones.tokens import join_heads, split_heads, to_map
from clipself.detection.region_prompt.file import read_prompt
from clipself.ops.levels import join_boxes
from clipself.ops.padding import pad_to_multiple, padding_of

REGIONS_AT_ONCE = 64
"""Regions that the last stage looks at in one go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaddedMap:
    """A map of a batch of padded pictures.

    Attributes:
        values: (B, C, Y, X).
        padding_BYX: True where a cell is padding.
        covered_B2: Columns and rows that each picture's own pixels cover.
    """

    values: Tensor
    padding_BYX: Tensor
    covered_B2: Tensor

    def align(self, values_BCYX: Tensor, boxes_norm: Sequence[Tensor], bins: tuple[int, int]) -> Tensor:
        """RoIAlign of a map of this size (R, C, bins): boxes (r, 4) an image, `xyxy` in [0, 1] of its own pixels."""
        cells_B4 = torch.cat([self.covered_B2, self.covered_B2], dim=1)
        rois_R5 = join_boxes([boxes.float() * cells for boxes, cells in zip(boxes_norm, cells_B4, strict=True)])
        aligned: Tensor = roi_align(values_BCYX.float(), rois_R5, bins, 1.0, sampling_ratio=-1, aligned=True)
        return aligned


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipMaps:
    """What one pass over a batch gives.

    Attributes:
        inner: What a localiser reads and a ResNet's regions are cut from.
        last: Of the last stage; the dense map of a transformer.
    """

    inner: PaddedMap
    last: PaddedMap


class ClipRegions(nn.Module, ABC):
    """A CLIP that neither learns nor changes mode, and its view of boxes.

    Args:
        clip: Its parameters stop learning.

    Attributes:
        inner_channels: Of `ClipMaps.inner`.
        prompt: Positions (1 + P, C) of the attention pool in place of the CLIP's own; None where there is no such pool.
    """

    inner_channels: int
    prompt: nn.Parameter | None

    def __init__(self, clip: DenseCLIP) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "ClipRegions":
        """Stays in evaluation mode whatever is asked."""
        del mode
        return super().train(False)

    def take_prompt(self, path: str | Path) -> None:
        """Pools by the positions in a file from now on.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is of another CLIP, or this one has no attention pool.
        """
        if self.prompt is None:
            raise ValueError(f"{self.clip.name} has no attention pool that a region prompt could be for; leave it out")
        self.prompt.data.copy_(read_prompt(path, like=self.prompt))

    @abstractmethod
    def read(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> ClipMaps:
        """One pass; `sizes` are height and width of each image's own pixels, upper left."""

    @abstractmethod
    def embed(self, maps: ClipMaps, boxes_norm: Sequence[Tensor]) -> Tensor:
        """The classifier's embeddings (R, D) of unit length.

        Args:
            maps: Of `read`.
            boxes_norm: For each image boxes (r, 4), `xyxy` in [0, 1] of its own pixels.
        """

    @abstractmethod
    def embed_fast(self, maps: ClipMaps, boxes_norm: Sequence[Tensor]) -> Tensor:
        """The same in one cheap pass for many boxes, near to `embed` but not it."""


class ResNetRegions(ClipRegions):
    """Regions of CLIP's ResNets, with a region prompt.

    Source: CORA (arXiv:2303.13076), Sec. 3.2; the released code for `embed_fast`.
    """

    def __init__(self, clip: DenseCLIP) -> None:
        super().__init__(clip)
        trunk = self.trunk
        self.inner_channels = trunk.stages[-2].width
        self.prompt = nn.Parameter(trunk.position_table.detach().clone(), requires_grad=False)

    @property
    def trunk(self) -> ResNetTrunk:
        """The view of the tower."""
        trunk = self.clip.trunk
        assert isinstance(trunk, ResNetTrunk)
        return trunk

    @torch.no_grad()
    def read(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> ClipMaps:
        """The maps of the last two stages; sides need not be multiples of the stride."""
        *_, inner, last = self.trunk.each_stage(images_B3HW)
        padding_BHW = padding_of(images_B3HW, sizes)
        return ClipMaps(inner=_by_padding(inner, padding_BHW), last=_by_padding(last, padding_BHW))

    def embed(self, maps: ClipMaps, boxes_norm: Sequence[Tensor]) -> Tensor:
        """RoIAlign on the last stage but one, the last stage region by region, then the attention pool."""
        with torch.autocast(maps.inner.values.device.type, enabled=False):
            regions = torch.split(self.cut(maps, boxes_norm), REGIONS_AT_ONCE)
            pooled = [self.trunk.pool_map(self.run_last(some), table_NC=self.prompt) for some in regions]
            return F.normalize(torch.cat(pooled), dim=-1)

    def cut(self, maps: ClipMaps, boxes_norm: Sequence[Tensor]) -> Tensor:
        """Regions (R, C, 2 y, 2 x) of the inner map, twice the grid of the attention pool's positions."""
        rows, cols = self.trunk.native_grid
        return maps.inner.align(maps.inner.values, boxes_norm, (2 * rows, 2 * cols))

    @torch.no_grad()
    def run_last(self, regions_RCyx: Tensor) -> Tensor:
        """The last stage over regions of what enters it."""
        run: Tensor = self.trunk.stage_modules[-1](regions_RCyx)
        return run

    @torch.no_grad()
    def embed_fast(self, maps: ClipMaps, boxes_norm: Sequence[Tensor]) -> Tensor:
        """The pool's projections over the whole last map, then RoIAlign of these, and attention region by region.

        The mean token is asked with, but is not among the keys and values, as released.
        """
        with torch.autocast(maps.last.values.device.type, enabled=False):
            return F.normalize(self._attend(maps.last, boxes_norm), dim=-1)

    def _attend(self, last: PaddedMap, boxes_norm: Sequence[Tensor]) -> Tensor:
        trunk, table_NC = self.trunk, self.prompt
        assert table_NC is not None
        pool = trunk.pooling_modules[0]
        cells_BPC, grid = last.values.float().flatten(2).mT, (last.values.shape[2], last.values.shape[3])

        def look(part: str) -> Tensor:
            """(R, P, C) of one projection; its positions are added without a second bias."""
            projected = to_map(join_heads(trunk.project(pool, cells_BPC, part)), grid)
            tokens = last.align(projected, boxes_norm, trunk.native_grid).flatten(2).mT
            places_NC = F.linear(table_NC, getattr(pool, f"{part}_proj").weight)
            return tokens.mean(1, keepdim=True) + places_NC[:1] if part == "q" else tokens + places_NC[1:]

        asked, keys, values = (split_heads(look(part), trunk.num_heads) for part in "qkv")
        mixed = join_heads(F.scaled_dot_product_attention(asked, keys, values))
        return trunk.merge_heads(pool, mixed)[:, 0]


class DenseRegions(ClipRegions):
    """Regions of a transformer's dense map: RoIAlign of one bin, as CLIPSelf trains it (arXiv:2310.01403).

    CORA has no transformer; so raw and refined ones can be compared. There is no attention pool, so no prompt.

    Args:
        clip: Any CLIP with a dense map.
        readout: How its last block becomes the map.
    """

    prompt = None

    def __init__(self, clip: DenseCLIP, *, readout: str = "value") -> None:
        super().__init__(clip)
        self.readout = readout
        self.inner_channels = clip.trunk.stages[-1].width

    @torch.no_grad()
    def read(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> ClipMaps:
        """The last tap and the dense map, of images that are padded to whole patches."""
        patch = self.clip.patch_size
        padded = pad_to_multiple(images_B3HW, patch)
        read = self.clip.read(padded, taps=(self.clip.num_taps - 1,), dense=True, readout=self.readout)
        assert read.dense is not None
        covered_B2 = torch.tensor([(cols, rows) for rows, cols in sizes], device=padded.device) / patch
        padding_BYX = shrink_padding(padding_of(padded, sizes), read.dense)
        return ClipMaps(
            inner=PaddedMap(values=read.taps[0], padding_BYX=padding_BYX, covered_B2=covered_B2),
            last=PaddedMap(values=read.dense, padding_BYX=padding_BYX, covered_B2=covered_B2),
        )

    @torch.no_grad()
    def embed(self, maps: ClipMaps, boxes_norm: Sequence[Tensor]) -> Tensor:
        """The dense map, averaged over the boxes."""
        with torch.autocast(maps.last.values.device.type, enabled=False):
            return F.normalize(maps.last.align(maps.last.values, boxes_norm, (1, 1))[..., 0, 0], dim=-1)

    embed_fast = embed


def clip_regions(clip: DenseCLIP, *, readout: str = "value") -> ClipRegions:
    """The view of boxes that fits a CLIP: through its attention pool where that is a ResNet's, with positions."""
    return ResNetRegions(clip) if isinstance(clip.trunk, ResNetTrunk) else DenseRegions(clip, readout=readout)


def shrink_padding(padding_BHW: Tensor, like_BCYX: Tensor) -> Tensor:
    """The padding of a smaller map (B, Y, X), by the nearest pixel."""
    shrunk = F.interpolate(padding_BHW[:, None].float(), size=like_BCYX.shape[2:])
    return shrunk[:, 0] > 0


def whole_map(map_BCYX: Tensor) -> PaddedMap:
    """A map without padding."""
    batch, _, rows, cols = map_BCYX.shape
    return PaddedMap(
        values=map_BCYX, padding_BYX=map_BCYX.new_zeros(batch, rows, cols, dtype=torch.bool),
        covered_B2=map_BCYX.new_tensor([[cols, rows]] * batch, dtype=torch.float32),
    )  # fmt: skip


def _by_padding(map_BCYX: Tensor, padding_BHW: Tensor) -> PaddedMap:
    """A picture covers as many cells as are not padding in its first row and column, whole ones, as released."""
    padding_BYX = shrink_padding(padding_BHW, map_BCYX)
    covered_B2 = torch.stack([(~padding_BYX[:, 0]).sum(1), (~padding_BYX[:, :, 0]).sum(1)], dim=1).float()
    return PaddedMap(values=map_BCYX, padding_BYX=padding_BYX, covered_B2=covered_B2)
