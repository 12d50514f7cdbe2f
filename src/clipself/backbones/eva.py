"""EVA-CLIP and Perception Encoder vision transformers (timm's `Eva` inside open_clip's `TimmModel`)."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import AttentionRope, RotaryEmbeddingCat, apply_rot_embed_cat, build_rotary_pos_embed
from timm.models.eva import EvaAttention, EvaBlockPostNorm
from torch import Tensor, nn

from clipself.backbones.timm_tower import TimmTower
from clipself.backbones.tokens import Tokens, split_heads


class EvaTrunk(TimmTower):
    """EVA-02: separate q/k/v, rotary positions on the patches, an inner norm, SwiGLU, a biased linear head.

    EVA-01 fuses q, k and v into one matrix and has neither rotary positions nor inner norms; the largest EVA-02 fuses
    them too and normalises behind attention and MLP instead of ahead of them. The Perception Encoder fuses them with
    a bias for each, normalises ahead of the first block, and pools by attention with or without a class token.
    """

    def __init__(self, visual: Any) -> None:
        check_family(visual.trunk)
        super().__init__(visual)

    def embed(self, images_B3HW: Tensor, positions: Tensor | None = None) -> Tokens:
        """As every timm tower; then the rotary table for the blocks.

        The rotary positions are stretched to the pre-training grid along each axis by itself: t / length * 16.
        On square images this is the published rule; on others each axis keeps the range that it was trained on.
        """
        tokens = super().embed(images_B3HW, positions)
        return replace(tokens, rope=self._rotary_table(tokens.grid))

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
            grid_offset=rope.grid_offset,
            grid_indexing=rope.grid_indexing,
            device=next(self.trunk.parameters()).device,
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
        """`q_proj`, `k_proj` or `v_proj`, or that third of the fused matrix; of EVA keys have no bias."""
        attention, third = block.attn, "qkv".index(part)
        if attention.qkv is None:
            projection = {"q": attention.q_proj, "k": attention.k_proj, "v": attention.v_proj}[part]
            return split_heads(projection(normed_BNC), self.num_heads)
        if isinstance(attention, AttentionRope):
            bias = None if attention.qkv.bias is None else attention.qkv.bias.chunk(3)[third]
        else:
            bias = {"q": attention.q_bias, "k": None, "v": attention.v_bias}[part]
        return split_heads(F.linear(normed_BNC, attention.qkv.weight.chunk(3)[third], bias), self.num_heads)

    def rotate(self, heads_BhND: Tensor, tokens: Tokens) -> Tensor:
        """Patches rotate, the class token stays."""
        if tokens.rope is None or heads_BhND.shape[2] == tokens.prefix:
            return heads_BhND
        class_token, patches = heads_BhND[:, :, : tokens.prefix], heads_BhND[:, :, tokens.prefix :]
        return torch.cat([class_token, apply_rot_embed_cat(patches, tokens.rope)], dim=2).type_as(heads_BhND)

    def merge_heads(self, block: Any, mixed_BNC: Tensor) -> Tensor:
        """Inner norm and output projection; then `norm1` where it stands behind the attention."""
        return self._behind(block, block.attn.proj(block.attn.norm(mixed_BNC)))

    def merge_gated(self, block: Any, mixed_BNC: Tensor, gates_C: Tensor) -> Tensor:
        """The weights stand behind the inner norm, which would undo them."""
        return self._behind(block, block.attn.proj(block.attn.norm(mixed_BNC) * gates_C))

    def _behind(self, block: Any, merged: Tensor) -> Tensor:
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


def check_family(trunk: Any) -> None:
    """Refuses relatives of EVA in timm's class whose parts are not read here.

    Raises:
        ValueError: The tower differs from EVA; the message says in what.
    """
    attention = trunk.blocks[0].attn
    stock = isinstance(attention, EvaAttention | AttentionRope)
    differences = {
        "has register tokens beside the class token": trunk.reg_token is not None,
        "has another attention": not stock or attention.gate is not None,
        "shares keys and values among heads": getattr(attention, "num_kv_groups", 1) != 1,
        "normalises queries and keys": stock and not isinstance(attention.q_norm, nn.Identity),
        "rotates halves of its heads": stock and attention.rotate_half,
        "rotates its positions in another way": not isinstance(trunk.rope, RotaryEmbeddingCat | None),
    }
    found = [difference for difference, holds in differences.items() if holds]
    if found:
        raise ValueError(
            f"no dense readout for this relative of EVA ({type(trunk).__name__}): it {'; it '.join(found)}"
        )
