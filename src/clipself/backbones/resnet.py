"""ResNets of CLIP (`open_clip.modified_resnet.ModifiedResNet`), whose last step is an attention pool."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.trunk import Sequence, Trunk, join_heads, split_heads


class ResNetTrunk(Trunk):
    """Reads the stock tower: stem, four stages, and the attention pool as the one block there is.

    Tokens are the mean of the last stage and its pixels; nothing surrounds the pool's attention, so that residual and
    feed-forward of a readout mean nothing here. The "value" readout is MaskCLIP's (arXiv:2112.01071) for these towers.
    """

    pools_by_attention = True
    stage_strides = (4, 8, 16, 32)

    def __init__(self, visual: Any) -> None:
        super().__init__()
        pool: Any = visual.attnpool
        self.visual = self.tower = visual
        self.blocks = nn.ModuleList([pool])
        self.patch_size = self.stage_strides[-1]
        side = int(visual.image_size) // self.patch_size
        self.native_grid = (side, side)
        self.width = int(pool.v_proj.in_features)
        self.embed_dim = int(pool.c_proj.out_features)
        self.num_heads = int(pool.num_heads)
        self.head_dim = self.width // self.num_heads

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels of the four stages."""
        return tuple(self.width >> halvings for halvings in (3, 2, 1, 0))

    def stages(self, images_B3HW: Tensor) -> list[Tensor]:
        """The maps of the four stages, finest first."""
        self.grid_of(images_B3HW)
        maps = [self.visual.layer1(self.visual.stem(images_B3HW))]
        for stage in (self.visual.layer2, self.visual.layer3, self.visual.layer4):
            maps.append(stage(maps[-1]))
        return maps

    def embed(self, images_B3HW: Tensor) -> Sequence:
        """Everything ahead of the attention pool."""
        return self.tokens_of(self.stages(images_B3HW)[-1])

    def tokens_of(self, map_BCYX: Tensor) -> Sequence:
        """Mean and pixels of a map of the last stage, with positions."""
        grid = (map_BCYX.shape[2], map_BCYX.shape[3])
        pixels = map_BCYX.flatten(2).mT
        tokens = torch.cat([pixels.mean(dim=1, keepdim=True), pixels], dim=1)
        return Sequence(tokens=tokens + self.positions(self.position_table, grid).to(tokens.dtype), grid=grid)

    def read_tap(self, tap_BCYX: Tensor) -> Tensor:
        """Map of the last stage -> each pixel's own value in the joint space (B, P, D)."""
        tokens = self.tokens_of(tap_BCYX).tokens[:, 1:]
        pool: Any = self.blocks[0]
        joint: Tensor = pool.c_proj(pool.v_proj(tokens))
        return joint

    def pool_map(self, map_BCYX: Tensor) -> Tensor:
        """The attention pool over maps of any size, such as regions of the last stage -> (B, D)."""
        return self.pool_class_token(self.tokens_of(map_BCYX))

    def pool_class_token(self, sequence: Sequence) -> Tensor:
        """The attention pool, asked by the mean alone."""
        return self._attend(sequence.tokens[:, :1], sequence.tokens)[:, 0]

    def run_block(self, block: nn.Module, sequence: Sequence) -> Tensor:
        """The pool's attention for every token."""
        del block
        return self._attend(sequence.tokens, sequence.tokens)

    def _attend(self, asking_BNC: Tensor, asked_BMC: Tensor) -> Tensor:
        block = self.blocks[0]
        key, value = (self.project(block, asked_BMC, part) for part in "kv")
        mixed = F.scaled_dot_product_attention(self.project(block, asking_BNC, "q"), key, value)
        return self.merge_heads(block, join_heads(mixed))

    def norm_attention(self, block: nn.Module, tokens_BNC: Tensor) -> Tensor:
        """There is no norm."""
        return tokens_BNC

    def project(self, block: Any, normed_BNC: Tensor, part: str) -> Tensor:
        """Its three projections are layers of their own."""
        return split_heads(getattr(block, f"{part}_proj")(normed_BNC), self.num_heads)

    def merge_heads(self, block: Any, mixed_BNC: Tensor) -> Tensor:
        """Output projection, straight into the joint space."""
        merged: Tensor = block.c_proj(mixed_BNC)
        return merged

    def feed_forward(self, block: nn.Module, tokens_BNC: Tensor) -> Tensor:
        """There is none."""
        return torch.zeros_like(tokens_BNC)

    def head(self, tokens_BNC: Tensor) -> Tensor:
        """The pool's output is in the joint space already."""
        return tokens_BNC

    @property
    def position_table(self) -> nn.Parameter:
        """The pool's own table."""
        table: nn.Parameter = self.visual.attnpool.positional_embedding
        return table

    def block_parameters(self, block: Any, part: str) -> list[nn.Parameter]:
        """Queries, keys and values have layers of their own."""
        parts: dict[str, list[nn.Module]] = {
            "query_key": [block.q_proj, block.k_proj],
            "merge": [block.c_proj],
            "feed_forward": [],
        }
        return [parameter for module in parts[part] for parameter in module.parameters()]
