"""Regions against the names that a teacher gave them."""

import torch.nn.functional as F
from torch import Tensor


def region_name_loss(logits_RK: Tensor, labels_R: Tensor, *, counted_K: Tensor) -> Tensor:
    """Binary cross entropy of each region with its own name and with the counted others, summed.

    Source: the RegionCLIP-style baseline of CLIPSelf's release (arXiv:2310.01403), which counts the names that a batch
    holds and random others.

    Args:
        logits_RK: Scaled cosines of regions and names.
        labels_R: Each region's own.
        counted_K: Names that count as negatives, boolean.

    Returns:
        A scalar in float32.
    """
    wanted_RK = F.one_hot(labels_R, logits_RK.shape[1]).bool()
    loss_RK = F.binary_cross_entropy_with_logits(logits_RK.float(), wanted_RK.float(), reduction="none")
    total: Tensor = loss_RK.where(wanted_RK | counted_K, 0.0).sum()
    return total
