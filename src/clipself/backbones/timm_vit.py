"""Plain timm vision transformers, pure or on a convolutional stem (open_clip's `TimmModel`)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.tokens import Tokens, split_heads
from clipself.backbones.transformer import TransformerTrunk
from clipself.backbones.trunk import Stage


class TimmVitTrunk(TransformerTrunk):
    """timm's `VisionTransformer` with a class token and learned positions; `clipself-mini` is one."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        trunk = self.trunk = visual.trunk
        if trunk.cls_token is None or trunk.num_prefix_tokens != 1 or trunk.global_pool != "token":
            raise ValueError(
                "dense readouts need a timm tower with one class token, no registers and global_pool='token'; "
                f"this one has {trunk.num_prefix_tokens} prefix tokens and global_pool={trunk.global_pool!r}"
            )
        self.visual = self.tower = visual
        self.blocks = trunk.blocks
        self.native_grid = (int(trunk.patch_embed.grid_size[0]), int(trunk.patch_embed.grid_size[1]))
        self.patch_size = int(trunk.patch_embed.img_size[0]) // self.native_grid[0]
        self.stages = (Stage(width=int(trunk.embed_dim), stride=self.patch_size),) * len(self.blocks)
        projection = getattr(visual.head, "proj", trunk.head)
        self.embed_dim = int(getattr(projection, "out_features", self.width))
        self.num_heads = int(self.blocks[0].attn.num_heads)  # type: ignore[union-attr, arg-type]
        self.head_dim = self.width // self.num_heads

    def embed(self, images_B3HW: Tensor, positions: Tensor | None = None) -> Tokens:
        """Stem or patch convolution, class token in front, positions, pre-norm."""
        grid = self.grid_of(images_B3HW)
        stem = self.trunk.patch_embed
        features = stem.backbone(images_B3HW) if hasattr(stem, "backbone") else images_B3HW
        features = features[-1] if isinstance(features, list | tuple) else features
        patches = getattr(stem, "norm", nn.Identity())(stem.proj(features).flatten(2).mT)
        class_token = self.trunk.cls_token.to(patches.dtype).expand(patches.shape[0], -1, -1)
        table = self.positions(self.trunk.pos_embed[0], grid) if positions is None else positions
        tokens = torch.cat([class_token, patches], dim=1) + table.to(patches.dtype)
        return Tokens(tokens=self.trunk.norm_pre(tokens), grid=grid)

    def run_block(self, block: nn.Module, tokens: Tokens) -> Tensor:
        """The stock block."""
        out: Tensor = block(tokens.tokens)
        return out

    def norm_attention(self, block: Any, tokens_BNC: Tensor) -> Tensor:
        """`norm1`."""
        normed: Tensor = block.norm1(tokens_BNC)
        return normed

    def project(self, block: Any, normed_BNC: Tensor, part: str) -> Tensor:
        """One third of the fused projection, then the head norm of queries and keys where there is one."""
        qkv = block.attn.qkv
        third = slice("qkv".index(part) * self.width, ("qkv".index(part) + 1) * self.width)
        bias = None if qkv.bias is None else qkv.bias[third]
        heads = split_heads(F.linear(normed_BNC, qkv.weight[third], bias), self.num_heads)
        norms = {"q": block.attn.q_norm, "k": block.attn.k_norm, "v": nn.Identity()}
        normed: Tensor = norms[part](heads)
        return normed

    def merge_heads(self, block: Any, mixed_BNC: Tensor) -> Tensor:
        """Inner norm where there is one, output projection, layer scale."""
        merged: Tensor = block.ls1(block.attn.proj(block.attn.norm(mixed_BNC)))
        return merged

    def feed_forward(self, block: Any, tokens_BNC: Tensor) -> Tensor:
        """`norm2`, MLP, layer scale."""
        out: Tensor = block.ls2(block.mlp(block.norm2(tokens_BNC)))
        return out

    def final_norm(self, tokens_BNC: Tensor) -> Tensor:
        """The one of the two norms that there is."""
        normed: Tensor = self.trunk.fc_norm(self.trunk.norm(tokens_BNC))
        return normed

    def head(self, tokens_BNC: Tensor) -> Tensor:
        """Final norm, then whichever of the two heads holds the projection."""
        projected: Tensor = self.visual.head(self.trunk.head(self.final_norm(tokens_BNC)))
        return projected

    @property
    def position_table(self) -> nn.Parameter:
        """The tower's own table."""
        table: nn.Parameter = self.trunk.pos_embed
        return table
