"""The side network of SAN: a slim ViT beside a frozen CLIP that proposes masks and tells CLIP where to look.

Source: SAN (arXiv:2302.12242), Sec. 3.1-3.2, with the published parameter names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from clipself.layers.norms import ChannelNorm
from clipself.layers.pointwise_mlp import PointwiseMLP
from clipself.ops.axes import unfold_axis
from clipself.segmentation.san.settings import SideSettings

EPSILON = 1e-6
"""Of every norm in the side network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposals:
    """Masks, and where CLIP shall look for each.

    Attributes:
        masks_BQYX: Mask logits at the side network's grid.
        bias_BhQYX: Attention biases for each head of CLIP.
    """

    masks_BQYX: Tensor
    bias_BhQYX: Tensor


class Fusion(nn.Module):
    """Brings a map of CLIP to the side network's width and grid."""

    def __init__(self, *, clip_width: int, width: int) -> None:
        super().__init__()
        self.input_proj = nn.Sequential(ChannelNorm(clip_width, eps=EPSILON), nn.Conv2d(clip_width, width, 1))

    def forward(self, clip_BCyx: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map (B, C, y, x) of CLIP -> tokens (B, Y X, width)."""
        projected = F.interpolate(self.input_proj(clip_BCyx), size=grid, mode="bilinear", align_corners=False)
        return projected.flatten(2).mT


class SideTrunk(nn.Module):
    """Patches, positions and blocks of the side network; it has neither class token nor final norm."""

    def __init__(self, settings: SideSettings) -> None:
        super().__init__()
        side = settings.table_size // settings.patch
        self.pos_embed = nn.Parameter(torch.zeros(1, side * side, settings.width))
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, settings.width, kernel_size=settings.patch, stride=settings.patch)}
        )
        self.blocks = nn.ModuleList(
            Block(
                dim=settings.width,
                num_heads=settings.heads,
                qkv_bias=True,
                norm_layer=partial(nn.LayerNorm, eps=EPSILON),
            )
            for _ in range(settings.depth)
        )
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """The position table on another grid: bicubic, without antialiasing."""
        side = round(self.pos_embed.shape[1] ** 0.5)
        if not torch.compiler.is_exporting() and grid == (side, side):
            return self.pos_embed
        table = unfold_axis(self.pos_embed.mT, -1, (side, side))
        return F.interpolate(table, size=grid, mode="bicubic", align_corners=False).flatten(2).mT


class MaskDecoder(nn.Module):
    """Queries times maps: mask logits, and attention biases for every head of CLIP."""

    def __init__(self, settings: SideSettings) -> None:
        super().__init__()
        width, channels = settings.width, settings.channels
        self.heads = settings.clip_heads
        self.query_mlp = PointwiseMLP(width, channels, channels, channels)
        self.pix_mlp = PointwiseMLP(width, channels, channels, channels, maps=True)
        self.attn_mlp = PointwiseMLP(width, channels, channels, channels * self.heads, maps=True)
        self.bias_scaling = nn.Linear(1, 1)

    def forward(self, queries_BQC: Tensor, maps_BCYX: Tensor) -> Proposals:
        """Predicts from the queries and the patch tokens of one depth."""
        queries = self.query_mlp(queries_BQC)
        masks = torch.einsum("bqc,bcyx->bqyx", queries, self.pix_mlp(maps_BCYX))
        look = unfold_axis(self.attn_mlp(maps_BCYX), 1, (self.heads, -1))
        bias = torch.einsum("bqc,bhcyx->bhqyx", queries, look)
        return Proposals(masks_BQYX=masks, bias_BhQYX=self.bias_scaling(bias[..., None])[..., 0])


class SideAdapter(nn.Module):
    """The whole side network.

    Args:
        settings: Sizes.
        clip_width: Width of CLIP's tokens.
    """

    def __init__(self, settings: SideSettings, *, clip_width: int) -> None:
        super().__init__()
        self.settings = settings
        self.vit_model = SideTrunk(settings)
        self.query_embed = nn.Parameter(torch.zeros(1, settings.queries, settings.width))
        self.query_pos_embed = nn.Parameter(torch.zeros(1, settings.queries, settings.width))
        self.fusion_layers = nn.ModuleDict(
            {
                f"layer_{depth}": Fusion(clip_width=clip_width, width=settings.width)
                for depth in settings.fusion.values()
            }
        )
        self.mask_decoder = MaskDecoder(settings)
        for table in (self.query_embed, self.query_pos_embed):
            nn.init.normal_(table, std=0.02)

    def forward(self, images_B3HW: Tensor, taps: Sequence[Tensor], *, depths: Sequence[int]) -> list[Proposals]:
        """Proposals at chosen depths.

        The whole position table is added again after every block but the last.

        Args:
            images_B3HW: Normalised images, sides multiples of the patch.
            taps: CLIP's maps (B, C, y, x), by how many of its blocks have run.
            depths: How many blocks have run at each prediction.
        """
        trunk, count = self.vit_model, self.settings.queries
        patches = trunk.patch_embed["proj"](images_B3HW)
        grid = (patches.shape[2], patches.shape[3])
        positions = torch.cat([self.query_pos_embed, trunk.positions(grid)], dim=1)
        queries = self.query_embed.expand(patches.shape[0], -1, -1)
        tokens = torch.cat([queries, patches.flatten(2).mT], dim=1) + positions
        tokens = self._fuse(0, tokens, taps, grid)
        proposals = []
        for depth, block in enumerate(trunk.blocks, start=1):
            tokens = self._fuse(depth, block(tokens), taps, grid)
            if depth in depths:
                maps = unfold_axis(tokens[:, count:].mT, -1, grid)
                proposals.append(self.mask_decoder(tokens[:, :count], maps))
            if depth < len(trunk.blocks):
                tokens = tokens + positions
        return proposals

    def _fuse(self, depth: int, tokens: Tensor, taps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        count = self.settings.queries
        for tap, at in self.settings.fusion.items():
            if at == depth:
                layer: Any = self.fusion_layers[f"layer_{depth}"]
                tokens = torch.cat([tokens[:, :count], tokens[:, count:] + layer(taps[tap], grid)], dim=1)
        return tokens
