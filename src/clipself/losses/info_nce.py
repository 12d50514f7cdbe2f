"""Contrast between pairs that belong together and all that do not."""

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    left_ND: Tensor, right_ND: Tensor, *, temperature: float | Tensor, groups_N: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE (CLIP, arXiv:2103.00020, Fig. 3); rows of one group are not each other's negatives.

    Source: BARON (arXiv:2302.13996), Eq. 4: bags of one image overlap, so they are left out of the sum.

    Args:
        left_ND: Embeddings (N, D), any length.
        right_ND: Their partners (N, D), same order.
        temperature: Factor of the cosine.
        groups_N: Number of each row's group (N,); None: every other row is a negative.

    Returns:
        Sum over the rows of the mean of both directions, in float32 at least; 0 without rows.

    Raises:
        ValueError: The two are not (N, D) of one shape.
    """
    if left_ND.shape != right_ND.shape or left_ND.ndim != 2:
        raise ValueError(f"{tuple(left_ND.shape)} and {tuple(right_ND.shape)} are not pairs; expected (N, D) twice")
    if not len(left_ND):
        return left_ND.float().sum() * 0
    kind = torch.promote_types(left_ND.dtype, torch.float32)
    logits_NN = temperature * F.normalize(left_ND.to(kind), dim=1) @ F.normalize(right_ND.to(kind), dim=1).mT
    if groups_N is not None:
        same_NN = groups_N[:, None] == groups_N[None]
        same_NN.fill_diagonal_(False)
        logits_NN = logits_NN.masked_fill(same_NN, float("-inf"))
    rows = torch.arange(len(logits_NN), device=logits_NN.device)
    both = [F.cross_entropy(logits, rows, reduction="sum") for logits in (logits_NN, logits_NN.mT)]
    return (both[0] + both[1]) / 2
