"""From mask embeddings to class scores: cosines, the best synonym, and the published mixtures of two sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_LOG: Final = -1e4
"""Stands for the logarithm of zero; exp of it is zero in every format, and no multiple of it is NaN."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRows:
    """Names as embeddings; a class may have several.

    Attributes:
        rows_SD: One row a name, the names of a class one after another.
        counts: How many names each class has.
    """

    rows_SD: Tensor
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.rows_SD.ndim != 2 or sum(self.counts) != len(self.rows_SD) or not self.counts or min(self.counts) < 1:
            raise ValueError(
                f"{tuple(self.rows_SD.shape)} rows do not hold the names of {len(self.counts)} classes "
                f"({sum(self.counts)} names); each class needs at least one row of the joint space"
            )

    def to(self, device: torch.device | str) -> "TextRows":
        """The same rows on another device."""
        return TextRows(rows_SD=self.rows_SD.to(device), counts=self.counts)


def class_logits(
    embeddings_BQD: Tensor, text: TextRows, *, scale: Tensor | float, void_1D: Tensor | None = None
) -> Tensor:
    """Scaled cosines, the best of a class's names.

    Source: OpenSeg's prompt ensembling as in ODISE and FC-CLIP.

    Args:
        embeddings_BQD: One embedding a mask, any length.
        text: Names.
        scale: What the cosine is multiplied with.
        void_1D: Embedding of "no object", which becomes the last column.

    Returns:
        Logits (B, Q, K), or (B, Q, K + 1) with void.
    """
    rows = text.rows_SD if void_1D is None else torch.cat([text.rows_SD, void_1D])
    counts = text.counts if void_1D is None else (*text.counts, 1)
    cosine_BQS = F.normalize(embeddings_BQD, dim=-1) @ F.normalize(rows, dim=-1).to(embeddings_BQD).T
    return scale * best_of_each(cosine_BQS, counts)


def best_of_each(scores_BQS: Tensor, counts: Sequence[int]) -> Tensor:
    """The largest score of each run of columns.

    Args:
        scores_BQS: One column a name.
        counts: Length of each run.

    Returns:
        One column a class.
    """
    longest = max(counts)
    if longest == 1:
        return scores_BQS
    columns, start = [], 0
    for count in counts:
        columns.append([start + min(place, count - 1) for place in range(longest)])
        start += count
    index = torch.tensor(columns, device=scores_BQS.device)
    return scores_BQS[..., index].amax(-1)


def overlapping(test: Sequence[Sequence[str]], seen: Sequence[Sequence[str]]) -> list[bool]:
    """Which classes were seen in training: those that share a name with the training vocabulary.

    Source: ODISE (arXiv:2303.04803) and FC-CLIP (arXiv:2308.02487), released evaluation.
    """
    known = {name for names in seen for name in names}
    return [not known.isdisjoint(names) for names in test]


def log_mixture(
    inside_BQK: Tensor,
    outside_BQK: Tensor,
    *,
    seen: Sequence[bool],
    alpha: float,
    beta: float,
    valid_BQ: Tensor | None = None,
) -> Tensor:
    """The geometric mean of two class distributions, weighted by whether a class was seen in training.

    log p = (1 - w) log p_in + w log p_out with w = alpha for seen classes and beta for the others; a probability that
    underflows stays a very small number, so nothing here is ever NaN. Source: ODISE, Eq. 7; FC-CLIP, Eq. 6.

    Args:
        inside_BQK: Logits of the trained generator, without "no object".
        outside_BQK: Logits of the frozen CLIP.
        seen: For each class whether it was seen in training.
        alpha: Share of the CLIP in seen classes.
        beta: Share of the CLIP in the others.
        valid_BQ: Masks that the CLIP can judge; the others keep the generator's score alone (FC-CLIP with ResNets).

    Returns:
        Log-scores (B, Q, K), not normalised.

    Raises:
        ValueError: A weight is outside [0, 1] or the sources have different classes.
    """
    if not (0 <= alpha <= 1 and 0 <= beta <= 1):
        raise ValueError(f"alpha={alpha} and beta={beta} are the CLIP's shares and must lie in [0, 1]")
    if inside_BQK.shape != outside_BQK.shape or inside_BQK.shape[-1] != len(seen):
        raise ValueError(
            f"generator {tuple(inside_BQK.shape)}, CLIP {tuple(outside_BQK.shape)} and {len(seen)} classes do not fit; "
            "both score every class but no void"
        )
    share = torch.where(torch.tensor(seen, device=inside_BQK.device), alpha, beta).float()
    if valid_BQ is not None:
        share = share * valid_BQ[..., None]
    return (1 - share) * log_softmax(inside_BQK) + share * log_softmax(outside_BQK)


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities in float32 with a finite floor, also for classes that are ruled out by -inf."""
    return F.log_softmax(logits.float(), dim=-1).clamp(min=LEAST_LOG)


def with_void(scores_BQK: Tensor, void_BQ1: Tensor) -> Tensor:
    """Class log-scores and the probability of "no object" -> log-probabilities of all K + 1.

    Source: ODISE and FC-CLIP, released evaluation: log(softmax(scores) * (1 - void), void; + 1e-8).

    Args:
        scores_BQK: Log-scores of the classes.
        void_BQ1: Probability of "no object".
    """
    probabilities = torch.cat([scores_BQK.float().softmax(-1) * (1 - void_BQ1), void_BQ1], dim=-1)
    return torch.log(probabilities + 1e-8)
