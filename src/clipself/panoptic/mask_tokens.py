"""ODISE's own CLIP score: copies of the class token that may look only at the patches of one mask each."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.transformer import require_blocks

Blocking = Literal["removed", "raised"]


@torch.no_grad()
def embed_mask_tokens(
    clip: DenseCLIP, images_B3HW: Tensor, masks_BQYX: Tensor, *, blocking: Blocking = "removed"
) -> Tensor:
    """Embeds each mask by a class token of its own.

    Q copies of the class token, made ahead of the first block, ride along: each sees the class token and the patches
    of its mask, and nobody sees them. Source: MaskCLIP with mask tokens (arXiv:2208.08984), as in ODISE
    (arXiv:2303.04803). Weights refined by CLIPSelf are meant for the dense map, not for this.

    Args:
        clip: The CLIP.
        images_B3HW: Normalised images at the size the tower shall see.
        masks_BQYX: Mask logits of the same pictures, at any resolution.
        blocking: "removed" is what the method says. "raised" repeats what its code does on an open_clip that turns
            boolean masks into numbers: whatever should be blocked has its attention logit raised by one.

    Returns:
        Embeddings (B, Q, D), not normalised.
    """
    trunk, count = require_blocks(clip, "judging by mask tokens"), masks_BQYX.shape[1]
    entered = trunk.embed(images_B3HW)
    allowed_BQP = patches_of(masks_BQYX, size=images_B3HW.shape[-2:], patch=clip.patch_size)
    blocked_BNN = blocked_pairs(allowed_BQP)
    bias_BNN = torch.zeros_like(blocked_BNN, dtype=entered.tokens.dtype)
    bias_BNN = bias_BNN.masked_fill(blocked_BNN, float("-inf") if blocking == "removed" else 1.0)
    tokens = torch.cat([entered.tokens[:, :1].expand(-1, count, -1), entered.tokens], dim=1)
    for block in trunk.blocks:
        tokens = trunk.run_biased(block, tokens, entered, bias_BNN[:, None])
    return trunk.head(tokens[:, :count])


def patches_of(masks_BQYX: Tensor, *, size: torch.Size, patch: int) -> Tensor:
    """Which patches belong to a mask: those that hold a pixel of probability 0.5 or more.

    Args:
        masks_BQYX: Mask logits.
        size: Height and width of the image.
        patch: Side of a patch, in pixels.

    Returns:
        Booleans (B, Q, P).
    """
    full = F.interpolate(masks_BQYX, size=tuple(size), mode="bilinear", align_corners=False)
    return (F.max_pool2d(full.sigmoid(), patch) >= 0.5).flatten(2)


def blocked_pairs(allowed_BQP: Tensor) -> Tensor:
    """Who must not look at whom among mask tokens, class token and patches, in this order.

    Args:
        allowed_BQP: Patches of each mask.

    Returns:
        Booleans (B, N, N) with N = Q + 1 + P; rows look at columns.
    """
    batch, masks, patches = allowed_BQP.shape
    total = masks + 1 + patches
    blocked = torch.zeros(batch, total, total, dtype=torch.bool, device=allowed_BQP.device)
    blocked[:, :, :masks] = True
    blocked[:, :masks, masks + 1 :] = ~allowed_BQP
    return blocked
