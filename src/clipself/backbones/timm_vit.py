"""Plain timm vision transformers, pure or on a convolutional stem: SigLIP, ViTamin, MobileCLIP-B, `clipself-mini`."""

from typing import Any

import torch.nn.functional as F
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from clipself.backbones.timm_tower import TimmTower
from clipself.backbones.tokens import split_heads


class TimmVitTrunk(TimmTower):
    """timm's `VisionTransformer` with its ordinary blocks, whatever pools them."""

    def __init__(self, visual: Any) -> None:
        first = visual.trunk.blocks[0]
        if not isinstance(first, Block) or not isinstance(first.attn, Attention) or first.attn.gate is not None:
            raise ValueError(
                f"no dense readout for blocks of another kind ({type(first).__name__} with "
                f"{type(getattr(first, 'attn', None)).__name__}); timm's ordinary blocks are read"
            )
        super().__init__(visual)

    def project(self, block: Any, normed_BNC: Tensor, part: str) -> Tensor:
        """One third of the fused projection, then the head norm of queries and keys where there is one."""
        qkv = block.attn.qkv
        third = "qkv".index(part)
        bias = None if qkv.bias is None else qkv.bias.chunk(3)[third]
        heads = split_heads(F.linear(normed_BNC, qkv.weight.chunk(3)[third], bias), self.num_heads)
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
