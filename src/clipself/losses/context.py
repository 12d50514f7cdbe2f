"""Which patches belong together, told by one map and learnt by another."""

from typing import Literal

import torch
from torch import Tensor

from clipself.ops.patch_maps import patch_cosines as patch_cosines


def context_loss(ours_BPP: Tensor, theirs_BPP: Tensor, *, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """The length of the difference of two patches' rows of cosines, over all patches.

    Source: DeCLIP (arXiv:2505.04410), the loss of the context.

    Args:
        ours_BPP: Cosines that learn.
        theirs_BPP: The guide's; no gradient flows there.
        reduction: "mean" over the patches of all images, or their "sum".

    Returns:
        A scalar; rows that are equal give no gradient.

    Raises:
        ValueError: The two are not (B, P, P) of one shape.
    """
    if ours_BPP.ndim != 3 or ours_BPP.shape != theirs_BPP.shape or ours_BPP.shape[1] != ours_BPP.shape[2]:
        raise ValueError(
            f"cosines {tuple(ours_BPP.shape)} and {tuple(theirs_BPP.shape)} must both be (B, P, P), on one grid of "
            "patches"
        )
    apart_BP: Tensor = torch.linalg.vector_norm(ours_BPP - theirs_BPP.detach(), dim=-1)
    return apart_BP.sum() if reduction == "sum" else apart_BP.mean()
