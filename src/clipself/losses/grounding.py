"""What nouns of captions teach masks: a picture's masks should be described by its own caption, and no other's."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def caption_similarity(logits_BQS: Tensor, nouns: Sequence[Tensor]) -> Tensor:
    """How well the nouns of each caption describe the masks of each picture.

    Source: ODISE (arXiv:2303.04803), Sec. 3.3: every mask weighs its similarities with the nouns of a caption by their
    softmax, so that a mask which is none of them costs little; summed over masks, averaged over nouns.

    Args:
        logits_BQS: Cosines of masks with nouns, divided by the temperature.
        nouns: For each caption the columns of its nouns.

    Returns:
        (B, number of captions).
    """
    each = []
    for columns in nouns:
        own_BQk = logits_BQS[..., columns]
        each.append((own_BQk.softmax(-1) * own_BQk).sum((1, 2)) / len(columns))
    return torch.stack(each, dim=1)


def grounding_loss(similarity_BB: Tensor, own: Tensor | None = None) -> Tensor:
    """Cross entropy from pictures to captions and back, summed over the pictures.

    Source: ODISE (arXiv:2303.04803), Sec. 3.3.

    Args:
        similarity_BB: Pictures in rows, their captions in the same order in columns.
        own: Indices of the pictures that are summed over, where others are there as negatives only; all if not given.
    """
    own = torch.arange(len(similarity_BB), device=similarity_BB.device) if own is None else own
    to_captions = F.cross_entropy(similarity_BB[own], own, reduction="sum")
    return to_captions + F.cross_entropy(similarity_BB.T[own], own, reduction="sum")
