"""Contrast of images and their texts over a batch: every other pair is a negative."""

from collections.abc import Mapping
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.losses.info_nce import info_nce


def focal_contrast(
    logits_NM: Tensor, targets_N: Tensor, *, alpha: float = 0.5, gamma: float = 1.0, normaliser: float | None = None
) -> Tensor:
    """Focal loss over all pairs: easy ones weigh less, which lets a batch learn from its hard ones.

    Source: RO-ViT (arXiv:2305.07011), Sec. 3.2, released code: 2 a (1 - p)^g softplus(-x) of a pair that belongs
    together, 2 (1 - a) p^g softplus(x) of one that does not, p = sigmoid(x). The factor 2 keeps a = 0.5 neutral.

    Args:
        logits_NM: Cosines times the temperature.
        targets_N: Column that belongs to each row.
        alpha: Weight of the pairs that belong together, in [0, 1].
        gamma: Power of what is wrong.
        normaliser: What the sum is divided by; nothing if not given.

    Returns:
        The sum over all pairs, in float32 at least.
    """
    logits = logits_NM.to(torch.promote_types(logits_NM.dtype, torch.float32))
    together = F.one_hot(targets_N.long(), logits.shape[1]).bool()
    wrong = torch.where(together, -logits, logits)  # softplus and chance of the wrong answer, for both kinds of pairs
    weights = 2 * torch.where(together, alpha, 1 - alpha).to(logits)
    total = (weights * wrong.sigmoid() ** gamma * F.softplus(wrong)).sum()
    return total if normaliser is None else total / normaliser


def focal_both(logits_NN: Tensor, *, alpha: float = 0.5, gamma: float = 1.0) -> Tensor:
    """`focal_contrast` from image to text and from text to image, added; pairs stand on the diagonal.

    Both directions see the same pairs of a square batch, so the sum is twice one of them. The release has one direction
    and no composition: this one, and a division by the rows, is ours.
    """
    rows_N = torch.arange(len(logits_NN), device=logits_NN.device)
    across = focal_contrast(logits_NN, rows_N, alpha=alpha, gamma=gamma)
    return across + focal_contrast(logits_NN.mT, rows_N, alpha=alpha, gamma=gamma)


def _unit(rows_ND: Tensor) -> Tensor:
    return F.normalize(rows_ND.to(torch.promote_types(rows_ND.dtype, torch.float32)), dim=1)


class Contrast(Protocol):
    """A loss of N pairs: the sum over the rows of both directions, which the caller divides by N."""

    def __call__(self, images_ND: Tensor, texts_ND: Tensor, *, temperature: float | Tensor) -> Tensor:
        """Embeddings of any length, row by row; the factor of their cosine."""


def focal_pairs(images_ND: Tensor, texts_ND: Tensor, *, temperature: float | Tensor) -> Tensor:
    """RO-ViT's focal contrast with its published constants, both directions; see `focal_both`."""
    return focal_both(temperature * _unit(images_ND) @ _unit(texts_ND).mT)


def softmax_pairs(images_ND: Tensor, texts_ND: Tensor, *, temperature: float | Tensor) -> Tensor:
    """CLIP's softmax contrast, the mean of both directions; see `info_nce`."""
    return info_nce(images_ND, texts_ND, temperature=temperature)


CONTRASTS: Final[Mapping[str, Contrast]] = {"softmax": softmax_pairs, "focal": focal_pairs}
"""`PretrainConfig.contrast` -> the loss."""
