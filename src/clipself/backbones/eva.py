"""EVA-02 CLIP vision transformers (timm's `Eva` inside open_clip's `TimmModel`)."""

from typing import Any

import torch
from timm.layers import apply_rot_embed_cat, build_rotary_pos_embed
from torch import Tensor, nn

from clipself.backbones.trunk import Sequence, Trunk, split_heads


class EvaTrunk(Trunk):
    """Separate q/k/v, rotary positions on the patches, an inner norm, SwiGLU, a biased linear head."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = self.tower = visual
        trunk = self.trunk = visual.trunk
        self.blocks = trunk.blocks
        self.patch_size = int(trunk.patch_embed.patch_size[0])
        self.native_grid = (int(trunk.patch_embed.grid_size[0]), int(trunk.patch_embed.grid_size[1]))
        self.width = int(trunk.embed_dim)
        self.embed_dim = int(trunk.head.out_features if hasattr(trunk.head, "out_features") else trunk.embed_dim)
        self.num_heads = int(self.blocks[0].attn.num_heads)  # type: ignore[union-attr, arg-type]
        self.head_dim = self.width // self.num_heads

    def embed(self, images_B3HW: Tensor) -> Sequence:
        """Convolution with bias, class token in front, absolute positions; rotary table for the blocks.

        The rotary positions are stretched to the pre-training grid along each axis by itself: t / length * 16.
        On square images this is the published rule; on others each axis keeps the range that it was trained on.
        """
        grid = self.grid_of(images_B3HW)
        patches = self.trunk.patch_embed.proj(images_B3HW).flatten(2).mT
        class_token = self.trunk.cls_token.to(patches.dtype).expand(patches.shape[0], -1, -1)
        table = self.positions(self.trunk.pos_embed[0], grid)
        tokens = torch.cat([class_token, patches], dim=1) + table.to(patches.dtype)
        return Sequence(tokens=tokens, grid=grid, rope=self._rotary_table(grid))

    def _rotary_table(self, grid: tuple[int, int]) -> Tensor | None:
        rope = self.trunk.rope
        if rope is None:
            return None
        sin_cos = build_rotary_pos_embed(
            feat_shape=list(grid),
            dim=self.head_dim,
            temperature=rope.temperature,
            in_pixels=False,
            ref_feat_shape=rope.ref_feat_shape,
            device=self.trunk.cls_token.device,
        )
        return torch.cat(sin_cos, dim=-1)

    def run_block(self, block: nn.Module, sequence: Sequence) -> Tensor:
        """The stock block with the rotary table of this grid."""
        tokens: Tensor = block(sequence.tokens, rope=sequence.rope)
        return tokens

    def norm_attention(self, block: Any, tokens_BNC: Tensor) -> Tensor:
        """`norm1`."""
        normed: Tensor = block.norm1(tokens_BNC)
        return normed

    def project(self, block: Any, normed_BNC: Tensor, part: str) -> Tensor:
        """`q_proj`, `k_proj` (no bias) or `v_proj`."""
        projection = {"q": block.attn.q_proj, "k": block.attn.k_proj, "v": block.attn.v_proj}[part]
        return split_heads(projection(normed_BNC), self.num_heads)

    def rotate(self, heads_BhND: Tensor, sequence: Sequence) -> Tensor:
        """Patches rotate, the class token stays."""
        if sequence.rope is None or heads_BhND.shape[2] == 1:
            return heads_BhND
        class_token, patches = heads_BhND[:, :, :1], heads_BhND[:, :, 1:]
        return torch.cat([class_token, apply_rot_embed_cat(patches, sequence.rope)], dim=2).type_as(heads_BhND)

    def merge_heads(self, block: Any, mixed_BNC: Tensor) -> Tensor:
        """Inner norm and output projection."""
        merged: Tensor = block.attn.proj(block.attn.norm(mixed_BNC))
        return merged if block.gamma_1 is None else block.gamma_1 * merged

    def feed_forward(self, block: Any, tokens_BNC: Tensor) -> Tensor:
        """`norm2` and SwiGLU."""
        out: Tensor = block.mlp(block.norm2(tokens_BNC))
        return out if block.gamma_2 is None else block.gamma_2 * out

    def head(self, tokens_BNC: Tensor) -> Tensor:
        """Final norm and the biased linear head."""
        projected: Tensor = self.visual.head(self.trunk.head(self.trunk.fc_norm(self.trunk.norm(tokens_BNC))))
        return projected

    @property
    def position_table(self) -> nn.Parameter:
        """The tower's own table."""
        table: nn.Parameter = self.trunk.pos_embed
        return table

    def block_parameters(self, block: Any, part: str) -> list[nn.Parameter]:
        """EVA keeps its projections apart, so queries and keys have parameters of their own."""
        parts: dict[str, list[nn.Module]] = {
            "query_key": [block.attn.q_proj, block.attn.k_proj],
            "merge": [block.attn.norm, block.attn.proj],
            "feed_forward": [block.norm2, block.mlp],
        }
        return [parameter for module in parts[part] for parameter in module.parameters()]
