"""ResNets of CLIP (`open_clip.modified_resnet.ModifiedResNet`), whose last step is an attention pool."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.conv import ConvTrunk
from clipself.backbones.readouts import Readout, ReadoutContext, read_last_block
from clipself.backbones.tokens import Tokens, join_heads, split_heads, to_map
from clipself.backbones.trunk import Stage
from clipself.ops.positions import resize_position_table


class ResNetTrunk(ConvTrunk):
    """Reads the stock tower: stem, four stages, and the attention pool as the one block that readouts can mix.

    Tokens are the mean of the last stage and its pixels; nothing surrounds the pool's attention, so that residual and
    feed-forward of a readout mean nothing here. The "value" readout is MaskCLIP's (arXiv:2112.01071) for these towers.
    """

    pools_by = "attention"

    def __init__(self, visual: Any) -> None:
        super().__init__()
        pool: Any = visual.attnpool
        self.visual = self.tower = visual
        self.stage_modules = [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
        self.pooling_modules = [pool]
        self.blocks = nn.ModuleList([pool])
        width = int(pool.v_proj.in_features)
        self.stages = tuple(Stage(width=width >> (3 - place), stride=4 << place) for place in range(4))
        self.patch_size = self.stages[-1].stride
        side = int(visual.image_size) // self.patch_size
        self.native_grid = (side, side)
        self.embed_dim = int(pool.c_proj.out_features)
        self.num_heads = int(pool.num_heads)

    def stem(self, images_B3HW: Tensor) -> Tensor:
        """Three convolutions and the first pooling."""
        features: Tensor = self.visual.stem(images_B3HW)
        return features

    @property
    def position_table(self) -> Tensor:
        """Positions (1 + P, C) of the attention pool, the mean's first."""
        table: Tensor = self.visual.attnpool.positional_embedding
        return table

    def tokens_of(self, map_BCYX: Tensor, table_NC: Tensor | None = None) -> Tokens:
        """Mean and pixels of a map of the last stage, with positions of its own or of another table of that size."""
        grid = (map_BCYX.shape[2], map_BCYX.shape[3])
        pixels = map_BCYX.flatten(2).mT
        tokens = torch.cat([pixels.mean(dim=1, keepdim=True), pixels], dim=1)
        table = resize_position_table(
            self.position_table if table_NC is None else table_NC, native_grid=self.native_grid, grid=grid
        )
        return Tokens(tokens=tokens + table.to(tokens.dtype), grid=grid)

    def read_map(
        self, map_BCYX: Tensor, readout: Readout, *, images_B3HW: Tensor, guide: Tensor | None = None
    ) -> Tensor:
        """The pool's attention as the readout says."""
        tokens = self.tokens_of(map_BCYX)
        guide = tokens.to_map() if guide is None else guide
        context = ReadoutContext(trunk=self, entered=(tokens,), images_B3HW=images_B3HW, guide_BCyx=guide)
        return read_last_block(context, replace(readout, residual=False, feed_forward=False)).to_map()

    def read_tap(self, tap_BCYX: Tensor) -> Tensor:
        """Map of the last stage -> each pixel's own value in the joint space."""
        pool: Any = self.blocks[0]
        joint_BPD = pool.c_proj(pool.v_proj(self.tokens_of(tap_BCYX).tokens[:, 1:]))
        return to_map(joint_BPD, (tap_BCYX.shape[2], tap_BCYX.shape[3]))

    def pool_map(self, map_BCYX: Tensor, *, table_NC: Tensor | None = None) -> Tensor:
        """The attention pool, asked by the mean alone, with its own positions or with another table of that size."""
        tokens = self.tokens_of(map_BCYX, table_NC).tokens
        return self._pool(tokens[:, :1], tokens)[:, 0]

    def pool_under(self, map_1CYX: Tensor, weights_QYX: Tensor) -> Tensor:
        """The attention pool, asked by the mean of the map, once for each mask, over the pixels of the mask alone.

        The mean is no key, and positions are resized bilinearly. Source: FC-CLIP (arXiv:2308.02487), released code.

        Args:
            map_1CYX: Map of the last stage of one image.
            weights_QYX: How much of each pixel belongs to each mask, not below 0 and above it somewhere.

        Returns:
            Embeddings (Q, D), not normalised.
        """
        table_NC = self.position_table.to(map_1CYX)
        positions_1CYX = to_map(table_NC[None, 1:], self.native_grid)
        positions_1CYX = F.interpolate(positions_1CYX, size=map_1CYX.shape[-2:], mode="bilinear", align_corners=False)
        pixels_1PC = (map_1CYX + positions_1CYX).flatten(2).mT
        asked_1QC = (map_1CYX.mean((2, 3)) + table_NC[0])[:, None].expand(-1, len(weights_QYX), -1)
        bias_QP = weights_QYX.float().flatten(1).log().to(map_1CYX)
        return self._pool(asked_1QC, pixels_1PC, bias_QP)[0]

    def _pool(self, asked_BQC: Tensor, tokens_BNC: Tensor, bias_QN: Tensor | None = None) -> Tensor:
        """What each asking token (B, Q, D) hears of the others by the pool's attention."""
        block = self.blocks[0]
        query, key, value = (
            self.project(block, some, part) for some, part in ((asked_BQC, "q"), (tokens_BNC, "k"), (tokens_BNC, "v"))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias_QN)
        return self.merge_heads(block, join_heads(mixed))

    # --- the pool, as a block that readouts can mix

    def norm_attention(self, block: nn.Module, tokens_BNC: Tensor) -> Tensor:
        """There is no norm."""
        return tokens_BNC

    def project(self, block: Any, normed_BNC: Tensor, part: str) -> Tensor:
        """Its three projections are layers of their own."""
        return split_heads(getattr(block, f"{part}_proj")(normed_BNC), self.num_heads)

    def rotate(self, heads_BhND: Tensor, tokens: Tokens) -> Tensor:
        """There are no rotary positions."""
        return heads_BhND

    def merge_heads(self, block: Any, mixed_BNC: Tensor) -> Tensor:
        """Output projection, straight into the joint space."""
        merged: Tensor = block.c_proj(mixed_BNC)
        return merged

    def feed_forward(self, block: nn.Module, tokens_BNC: Tensor) -> Tensor:
        """There is none."""
        return torch.zeros_like(tokens_BNC)
