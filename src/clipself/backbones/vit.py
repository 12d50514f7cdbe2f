"""OpenAI's and open_clip's vision transformers (`open_clip.transformer.VisionTransformer`): CLIP, CLIPA, CoCa."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.tokens import Tokens, join_heads, split_heads
from clipself.backbones.transformer import TransformerTrunk
from clipself.backbones.trunk import PoolsBy, Stage


class OpenClipTrunk(TransformerTrunk):
    """Reads the stock tower: convolution, class token, positions, pre-norm, blocks, `ln_post`, `proj`.

    CLIPA takes the mean of the patches; of CoCa the first of many learnt queries asks class token and patches.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = self.tower = visual
        self.pools_by = _pooling_of(visual)
        self.blocks = visual.transformer.resblocks
        first: Any = self.blocks[0]
        if not isinstance(first.attn, nn.MultiheadAttention):
            raise ValueError(f"no dense readout for blocks whose attention is another one ({type(first).__name__})")
        self.patch_size = int(visual.patch_size[0])
        self.native_grid = (int(visual.grid_size[0]), int(visual.grid_size[1]))
        self.embed_dim = int(visual.output_dim)
        self.stages = (Stage(width=int(visual.conv1.out_channels), stride=self.patch_size),) * len(self.blocks)
        self.num_heads = int(first.attn.num_heads)
        self.head_dim = self.width // self.num_heads

    def embed(self, images_B3HW: Tensor, positions: Tensor | None = None) -> Tokens:
        """Convolution without bias, class token in front, positions, `ln_pre`."""
        grid = self.grid_of(images_B3HW)
        patches = self.visual.conv1(images_B3HW).flatten(2).mT
        class_token = self.visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        table = self.positions(self.visual.positional_embedding, grid) if positions is None else positions
        tokens = torch.cat([class_token, patches], dim=1) + table.to(patches.dtype)
        return Tokens(tokens=self.visual.ln_pre(tokens), grid=grid)

    def run_block(self, block: nn.Module, tokens: Tokens) -> Tensor:
        """The residual attention block on the stock parameters, by fused attention.

        `nn.MultiheadAttention` itself leaves fused attention for a path of its own when it is frozen and in evaluation,
        which a teacher is: under bfloat16 on a CPU that path is several times slower.
        """
        attention: Any = block.attn
        normed = self.norm_attention(block, tokens.tokens)
        fused = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = (split_heads(part, self.num_heads) for part in fused.chunk(3, dim=-1))
        mixed = join_heads(F.scaled_dot_product_attention(query, key, value))
        out = tokens.tokens + self.merge_heads(block, mixed)
        return out + self.feed_forward(block, out)

    def norm_attention(self, block: Any, tokens_BNC: Tensor) -> Tensor:
        """`ln_1`."""
        normed: Tensor = block.ln_1(tokens_BNC)
        return normed

    def project(self, block: Any, normed_BNC: Tensor, part: str) -> Tensor:
        """One third of the fused input projection."""
        third = slice("qkv".index(part) * self.width, ("qkv".index(part) + 1) * self.width)
        weight, bias = block.attn.in_proj_weight[third], block.attn.in_proj_bias[third]
        return split_heads(F.linear(normed_BNC, weight, bias), self.num_heads)

    def merge_heads(self, block: Any, mixed_BNC: Tensor) -> Tensor:
        """Output projection and layer scale."""
        merged: Tensor = block.ls_1(block.attn.out_proj(mixed_BNC))
        return merged

    def feed_forward(self, block: Any, tokens_BNC: Tensor) -> Tensor:
        """`ln_2`, MLP, layer scale."""
        out: Tensor = block.ls_2(block.mlp(block.ln_2(tokens_BNC)))
        return out

    def final_norm(self, tokens_BNC: Tensor) -> Tensor:
        """`ln_post`, which of CoCa stands behind the pool."""
        normed: Tensor = tokens_BNC if self.pools_by == "attention" else self.visual.ln_post(tokens_BNC)
        return normed

    def head(self, tokens_BNC: Tensor) -> Tensor:
        """`ln_post` and the bias-free projection; of CoCa each token's value in the pool first."""
        if self.pools_by == "attention":
            tokens_BNC = self.visual.ln_post(_value_of_pooler(self.visual.attn_pool, tokens_BNC))
        projected: Tensor = self.final_norm(tokens_BNC) @ self.visual.proj
        return projected

    def pool_tokens(self, tokens_BNC: Tensor, *, prefix: int) -> Tensor:
        """The mean of the patches with `ln_post` on the stock tower's side of it, or CoCa's first query; `proj`."""
        if self.pools_by == "attention":
            pooled = self.visual.ln_post(self.visual.attn_pool(tokens_BNC)[:, 0])
        elif self.visual.final_ln_after_pool:
            pooled = self.visual.ln_post(tokens_BNC[:, prefix:].mean(1))
        else:
            pooled = self.visual.ln_post(tokens_BNC[:, prefix:]).mean(1)
        projected: Tensor = pooled @ self.visual.proj
        return projected

    @property
    def position_table(self) -> nn.Parameter:
        """The tower's own table."""
        table: nn.Parameter = self.visual.positional_embedding
        return table


def _pooling_of(visual: Any) -> PoolsBy:
    """What makes the image embedding.

    Raises:
        ValueError: A way that is not read here.
    """
    if visual.attn_pool is None and visual.pool_type in ("tok", "avg"):
        return "class token" if visual.pool_type == "tok" else "mean"
    if visual.attn_pool is not None and visual.attn_pool_contrastive is None and visual.pool_type == "tok":
        return "attention"
    kind = f"{visual.attn_pool_type} attention" if visual.attn_pool is not None else visual.pool_type
    raise ValueError(f"no dense readout for a tower that pools by {kind}; class token, mean and CoCa's pool are read")


def _value_of_pooler(pooler: Any, tokens_BNC: Tensor) -> Tensor:
    """What CoCa's pool would make of each token if it were alone: norm, value and output projection (B, N, D)."""
    attention = pooler.attn
    weight = attention.v_proj_weight if attention.in_proj_weight is None else attention.in_proj_weight.chunk(3)[2]
    value = F.linear(pooler.ln_k(tokens_BNC), weight, attention.in_proj_bias.chunk(3)[2])
    out: Tensor = attention.out_proj(value)
    return out
