"""What captions teach: a whole image's region should mean its own caption, and no other of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def caption_loss(logits_N: Tensor, own: int, *, negative_weight: float = 1.0) -> Tensor:
    """Binary cross entropy of an image's box against the captions of the batch, summed.

    Source: Detic (arXiv:2201.02605), Sec. 3.3 and released code: negatives are those of all processes where captions
    are gathered, and weigh .125 there by default; else those of the process, at full weight.

    Args:
        logits_N: What the box of the whole image scores for each caption.
        own: Place of the image's own.
        negative_weight: Weight of all others.
    """
    logits_N = logits_N.to(torch.promote_types(logits_N.dtype, torch.float32))
    wanted_N = torch.zeros_like(logits_N)
    wanted_N[own] = 1.0
    terms_N = F.binary_cross_entropy_with_logits(logits_N, wanted_N, reduction="none")
    return (terms_N * torch.where(wanted_N > 0, 1.0, negative_weight)).sum()
