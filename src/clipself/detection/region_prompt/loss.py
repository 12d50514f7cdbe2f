"""What a region prompt learns from."""

import torch.nn.functional as F
from torch import Tensor


def region_logits(embeddings_RD: Tensor, texts_KD: Tensor, *, temperature: float) -> Tensor:
    """Factor of the cosine times the cosine of unit embeddings (R, K)."""
    return temperature * embeddings_RD.float() @ texts_KD.to(embeddings_RD.device).float().mT


def prompt_loss(logits_RK: Tensor, labels_R: Tensor) -> Tensor:
    """Sum of the boxes' cross entropy among the names, no background; 0 where there is no box.

    Source: CORA (arXiv:2303.13076), Sec. 3.2.
    """
    return F.cross_entropy(logits_RK, labels_R, reduction="sum")
