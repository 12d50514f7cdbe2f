"""Class tokens of regions: copies of the class token that may look only at the patches of one mask or box each."""

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
    allowed_BQP = patches_of(masks_BQYX, size=images_B3HW.shape[-2:], patch=clip.patch_size)
    return _embed(clip, images_B3HW, blocked_pairs(allowed_BQP), amount=float("-inf") if blocking == "removed" else 1.0)


@torch.no_grad()
def embed_box_tokens(clip: DenseCLIP, images_B3HW: Tensor, boxes_BQ4: Tensor) -> Tensor:
    """Embeds each box by a class token of its own, which sees itself and the patches that the box touches.

    Our reading of RoI-based masked attention in PromptOVD (arXiv:2303.14386), of which no code is published.

    Args:
        clip: The CLIP.
        images_B3HW: Normalised images at the size the tower shall see.
        boxes_BQ4: `xyxy` in pixels of these images.

    Returns:
        Embeddings (B, Q, D), not normalised.
    """
    allowed_BQP = patches_of_boxes(boxes_BQ4, grid=clip.trunk.grid_of(images_B3HW), patch=clip.patch_size)
    return _embed(clip, images_B3HW, blocked_pairs(allowed_BQP, itself=True), amount=float("-inf"))


def _embed(clip: DenseCLIP, images_B3HW: Tensor, blocked_BNN: Tensor, *, amount: float) -> Tensor:
    """Runs copies of the class token along, as many as there are pairs beyond the image's own tokens."""
    trunk = require_blocks(clip, "judging by tokens of masks or boxes")
    entered = trunk.embed(images_B3HW)
    count = blocked_BNN.shape[1] - entered.tokens.shape[1]
    bias_BNN = torch.zeros_like(blocked_BNN, dtype=entered.tokens.dtype).masked_fill(blocked_BNN, amount)
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


def patches_of_boxes(boxes_BQ4: Tensor, *, grid: tuple[int, int], patch: int) -> Tensor:
    """Which patches a box touches: those whose cell shares some area with it.

    Args:
        boxes_BQ4: `xyxy` in pixels.
        grid: Rows and columns of the patches.
        patch: Side of a patch, in pixels.

    Returns:
        Booleans (B, Q, P).
    """
    left, top, right, bottom = (side[..., None] for side in boxes_BQ4.unbind(-1))
    columns = torch.arange(grid[1], device=boxes_BQ4.device) * patch
    rows = torch.arange(grid[0], device=boxes_BQ4.device) * patch
    across = torch.minimum(right, columns + patch) > torch.maximum(left, columns)
    down = torch.minimum(bottom, rows + patch) > torch.maximum(top, rows)
    return (down[..., :, None] & across[..., None, :]).flatten(2)


def blocked_pairs(allowed_BQP: Tensor, *, itself: bool = False) -> Tensor:
    """Who must not look at whom among mask tokens, class token and patches, in this order.

    Args:
        allowed_BQP: Patches of each mask.
        itself: Whether a mask token sees itself and not the class token, instead of the class token and not itself.

    Returns:
        Booleans (B, N, N) with N = Q + 1 + P; rows look at columns.
    """
    batch, masks, patches = allowed_BQP.shape
    total = masks + 1 + patches
    blocked = torch.zeros(batch, total, total, dtype=torch.bool, device=allowed_BQP.device)
    blocked[:, :, :masks] = True
    blocked[:, :masks, masks + 1 :] = ~allowed_BQP
    if itself:
        blocked[:, :masks, masks] = True
        blocked[:, range(masks), range(masks)] = False
    return blocked
