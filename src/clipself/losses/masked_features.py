"""Reconstruction of hidden patches as embeddings."""

from typing import Final, Literal

import torch.nn.functional as F
from torch import Tensor

Counted = Literal["all", "masked"]


def masked_features(
    predicted_BPD: Tensor, target_BPD: Tensor, hidden_BP: Tensor, *, counted: Counted = "all",
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:  # fmt: skip
    """One minus the mean cosine of predicted and true embeddings of patches, averaged over the images.

    Source: the idea of CFM-ViT (arXiv:2309.00775), whose code is not published; whether its mean runs over all patches
    or the hidden ones alone is not known, so both are here.

    Args:
        predicted_BPD: From the pass that did not see the hidden patches.
        target_BPD: From the pass that saw all of them; no gradient flows there.
        hidden_BP: Which patches were hidden.
        counted: Whether the mean is over "all" patches or the "masked" ones.
        reduction: "mean" over the images, or their "sum".

    Returns:
        A scalar; an image without a hidden patch counts as 1 - 0 under "masked".
    """
    cosine_BP = F.cosine_similarity(predicted_BPD, target_BPD.detach(), dim=-1)
    weights_BP = hidden_BP.to(cosine_BP) if counted == "masked" else hidden_BP.to(cosine_BP).fill_(1)
    loss_B = 1 - (cosine_BP * weights_BP).sum(1) / weights_BP.sum(1).clamp(min=1)
    return loss_B.sum() if reduction == "sum" else loss_B.mean()


COUNTED: Final[tuple[Counted, ...]] = ("all", "masked")
"""Patches that the mean may run over."""
