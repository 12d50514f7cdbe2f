"""What timm's vision transformers have in common inside open_clip's `TimmModel`: positions, and what pools tokens."""

from typing import Any

import torch
from torch import Tensor, nn

from clipself.backbones.latent_pool import check_latent_pool, value_of_pool
from clipself.backbones.tokens import Tokens
from clipself.backbones.transformer import TransformerTrunk
from clipself.backbones.trunk import PoolsBy, Stage

POOLS: dict[str, PoolsBy] = {"token": "class token", "map": "attention", "avg": "mean"}
"""timm's `global_pool` -> what makes an image embedding."""


class TimmTower(TransformerTrunk):
    """Stem, positions, final norm, pool and heads; a family adds its blocks.

    Args:
        visual: open_clip's `TimmModel`.

    Raises:
        ValueError: It pools in another way, or has register tokens.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = self.tower = visual
        trunk = self.trunk = visual.trunk
        if trunk.global_pool not in POOLS:
            raise ValueError(
                f"no dense readout for a tower with global_pool={trunk.global_pool!r}: {list(POOLS)} are read"
            )
        if trunk.reg_token is not None:
            raise ValueError("no dense readout for a tower that has register tokens beside the class token")
        self.pools_by = POOLS[trunk.global_pool]
        if self.pools_by == "attention":
            check_latent_pool(trunk.attn_pool)
        self.has_class_token = trunk.cls_token is not None
        self.blocks = trunk.blocks
        self.native_grid = (int(trunk.patch_embed.grid_size[0]), int(trunk.patch_embed.grid_size[1]))
        self.patch_size = int(trunk.patch_embed.img_size[0]) // self.native_grid[0]
        self.stages = (Stage(width=int(trunk.embed_dim), stride=self.patch_size),) * len(self.blocks)
        first: Any = self.blocks[0]
        self.num_heads, self.head_dim = int(first.attn.num_heads), int(first.attn.head_dim)
        heads = [part for part in (trunk.head, *visual.head.modules()) if isinstance(part, nn.Linear)]
        self.embed_dim = int(heads[-1].out_features) if heads else self.width

    def embed(self, images_B3HW: Tensor, positions: Tensor | None = None) -> Tokens:
        """Stem or patch convolution, class token in front where there is one, positions, pre-norm."""
        grid, trunk = self.grid_of(images_B3HW), self.trunk
        stem = trunk.patch_embed
        features = stem.backbone(images_B3HW) if hasattr(stem, "backbone") else images_B3HW
        features = features[-1] if isinstance(features, list | tuple) else features
        patches = getattr(stem, "norm", nn.Identity())(stem.proj(features).flatten(2).mT)
        table = positions
        if table is None and trunk.pos_embed is not None:
            table = self.positions(trunk.pos_embed[0], grid, prefix=self.rows_ahead)
        if table is not None and not self.rows_ahead:
            patches = patches + table.to(patches.dtype)
        if self.has_class_token:
            class_token = trunk.cls_token.to(patches.dtype).expand(patches.shape[0], -1, -1)
            patches = torch.cat([class_token, patches], dim=1)
        if table is not None and self.rows_ahead:
            patches = patches + table.to(patches.dtype)
        return Tokens(tokens=trunk.norm_pre(patches), grid=grid, prefix=int(self.has_class_token))

    @property
    def rows_ahead(self) -> int:
        """Rows of the position table ahead of the patches' own."""
        return int(self.has_class_token and not self.trunk.no_embed_class)

    def final_norm(self, tokens_BNC: Tensor) -> Tensor:
        """The one of the two norms that there is; the second one stands behind a mean."""
        normed: Tensor = self.trunk.norm(tokens_BNC)
        return self.trunk.fc_norm(normed) if self.pools_by == "class token" else normed

    def head(self, tokens_BNC: Tensor) -> Tensor:
        """Final norm, each token's value in the pool where that is an attention, and the heads."""
        tokens_BNC = self.final_norm(tokens_BNC)
        if self.pools_by == "attention":
            tokens_BNC = value_of_pool(self.trunk.attn_pool, tokens_BNC)
        return self.project_pooled(tokens_BNC)

    def pool_tokens(self, tokens_BNC: Tensor, *, prefix: int) -> Tensor:
        """Final norm, the attention pool or the mean of the patches, and the heads."""
        normed = self.final_norm(tokens_BNC)
        if self.pools_by == "mean":
            return self.project_pooled(normed[:, prefix:].mean(1))
        seen = 0 if self.pools_class_token else prefix
        return self.project_pooled(self.trunk.attn_pool(normed[:, seen:]))

    @property
    def pools_class_token(self) -> bool:
        """Whether an attention pool sees the class token too."""
        return bool(getattr(self.trunk, "pool_include_prefix", True))

    def project_pooled(self, pooled: Tensor) -> Tensor:
        """What stands behind the pool: a norm behind a mean, then whichever of the two heads holds the projection."""
        if self.pools_by != "class token":
            pooled = self.trunk.fc_norm(pooled)
        projected: Tensor = self.visual.head(self.trunk.head(pooled))
        return projected

    @property
    def position_table(self) -> nn.Parameter:
        """The tower's own table.

        Raises:
            ValueError: There is none.
        """
        table: nn.Parameter | None = self.trunk.pos_embed
        if table is None:
            raise ValueError("this tower has no learnt positions: its stem tells it where a patch lies")
        return table
