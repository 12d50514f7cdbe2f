"""EVA-02 CLIP vision transformers (timm's `Eva` inside open_clip's `TimmModel`)."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import RotaryEmbeddingCat, apply_rot_embed_cat, build_rotary_pos_embed
from timm.models.eva import EvaAttention, EvaBlockPostNorm
from torch import Tensor, nn

from clipself.backbones.tokens import Tokens, split_heads
from clipself.backbones.transformer import TransformerTrunk
from clipself.backbones.trunk import Stage


class EvaTrunk(TransformerTrunk):
    """EVA-02: separate q/k/v, rotary positions on the patches, an inner norm, SwiGLU, a biased linear head.

    EVA-01 fuses q, k and v into one matrix and has neither rotary positions nor inner norms; the largest EVA-02 fuses
    them too and normalises behind attention and MLP instead of ahead of them.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        check_family(visual.trunk)
        self.visual = self.tower = visual
        trunk = self.trunk = visual.trunk
        self.blocks = trunk.blocks
        self.patch_size = int(trunk.patch_embed.patch_size[0])
        self.native_grid = (int(trunk.patch_embed.grid_size[0]), int(trunk.patch_embed.grid_size[1]))
        self.stages = (Stage(width=int(trunk.embed_dim), stride=self.patch_size),) * len(self.blocks)
        self.embed_dim = int(trunk.head.out_features if hasattr(trunk.head, "out_features") else trunk.embed_dim)
        self.num_heads = int(self.blocks[0].attn.num_heads)  # type: ignore[union-attr, arg-type]
        self.head_dim = self.width // self.num_heads

    def embed(self, images_B3HW: Tensor, positions: Tensor | None = None) -> Tokens:
        """Convolution with bias, class token in front, absolute positions; rotary table for the blocks.

        The rotary positions are stretched to the pre-training grid along each axis by itself: t / length * 16.
        On square images this is the published rule; on others each axis keeps the range that it was trained on.
        """
        grid = self.grid_of(images_B3HW)
        patches = self.trunk.patch_embed.proj(images_B3HW).flatten(2).mT
        class_token = self.trunk.cls_token.to(patches.dtype).expand(patches.shape[0], -1, -1)
        table = self.positions(self.trunk.pos_embed[0], grid) if positions is None else positions
        tokens = torch.cat([class_token, patches], dim=1) + table.to(patches.dtype)
        return Tokens(tokens=tokens, grid=grid, rope=self._rotary_table(grid))

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

    def run_block(self, block: nn.Module, tokens: Tokens) -> Tensor:
        """The stock block with the rotary table of this grid."""
        out: Tensor = block(tokens.tokens, rope=tokens.rope)
        return out

    def norm_attention(self, block: Any, tokens_BNC: Tensor) -> Tensor:
        """`norm1`, where it stands ahead of the attention."""
        normed: Tensor = tokens_BNC if isinstance(block, EvaBlockPostNorm) else block.norm1(tokens_BNC)
        return normed

    def project(self, block: Any, normed_BNC: Tensor, part: str) -> Tensor:
        """`q_proj`, `k_proj` (no bias) or `v_proj`, or that third of the fused matrix."""
        attention = block.attn
        if attention.qkv is None:
            projection = {"q": attention.q_proj, "k": attention.k_proj, "v": attention.v_proj}[part]
            return split_heads(projection(normed_BNC), self.num_heads)
        weight = attention.qkv.weight.chunk(3)["qkv".index(part)]
        bias = {"q": attention.q_bias, "k": None, "v": attention.v_bias}[part]
        return split_heads(F.linear(normed_BNC, weight, bias), self.num_heads)

    def rotate(self, heads_BhND: Tensor, tokens: Tokens) -> Tensor:
        """Patches rotate, the class token stays."""
        if tokens.rope is None or heads_BhND.shape[2] == 1:
            return heads_BhND
        class_token, patches = heads_BhND[:, :, :1], heads_BhND[:, :, 1:]
        return torch.cat([class_token, apply_rot_embed_cat(patches, tokens.rope)], dim=2).type_as(heads_BhND)

    def merge_heads(self, block: Any, mixed_BNC: Tensor) -> Tensor:
        """Inner norm and output projection; then `norm1` where it stands behind the attention."""
        merged: Tensor = block.attn.proj(block.attn.norm(mixed_BNC))
        if isinstance(block, EvaBlockPostNorm):
            normed: Tensor = block.norm1(merged)
            return normed
        return merged if block.gamma_1 is None else block.gamma_1 * merged

    def feed_forward(self, block: Any, tokens_BNC: Tensor) -> Tensor:
        """`norm2` and SwiGLU, in the block's own order."""
        if isinstance(block, EvaBlockPostNorm):
            normed: Tensor = block.norm2(block.mlp(tokens_BNC))
            return normed
        out: Tensor = block.mlp(block.norm2(tokens_BNC))
        return out if block.gamma_2 is None else block.gamma_2 * out

    def final_norm(self, tokens_BNC: Tensor) -> Tensor:
        """The one of the two norms that there is."""
        normed: Tensor = self.trunk.fc_norm(self.trunk.norm(tokens_BNC))
        return normed

    def head(self, tokens_BNC: Tensor) -> Tensor:
        """Final norm and the biased linear head."""
        projected: Tensor = self.visual.head(self.trunk.head(self.final_norm(tokens_BNC)))
        return projected

    @property
    def position_table(self) -> nn.Parameter:
        """The tower's own table."""
        table: nn.Parameter = self.trunk.pos_embed
        return table


def check_family(trunk: Any) -> None:
    """Refuses relatives of EVA in timm's class whose parts are not read here.

    Raises:
        ValueError: The tower differs from EVA; the message says in what.
    """
    first = trunk.blocks[0]
    differences = {
        "pools its tokens by attention, so that a patch has no way of its own into the joint space": trunk.attn_pool
        is not None,
        "has no class token": trunk.cls_token is None,
        "averages its patches instead of reading the class token": trunk.attn_pool is None
        and trunk.global_pool != "token",
        "has register tokens beside the class token": trunk.reg_token is not None,
        "normalises its tokens ahead of the first block": not isinstance(trunk.norm_pre, nn.Identity),
        "has another attention": not isinstance(first.attn, EvaAttention) or first.attn.gate is not None,
        "rotates its positions in another way": not isinstance(trunk.rope, RotaryEmbeddingCat | None),
    }
    found = [difference for difference, holds in differences.items() if holds]
    if found:
        raise ValueError(
            f"no dense readout for this relative of EVA ({type(trunk).__name__}): it {'; it '.join(found)}"
        )
