"""From two sources of class scores to one: the published mixtures of a generator's scores and the CLIP's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.panoptic.generators.mask_set import MaskGenerator, MaskSet
from clipself.text.synonyms import split_synonyms

LEAST_LOG: Final = -1e4
"""Stands for the logarithm of zero; exp of it is zero in every format, and no multiple of it is NaN."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Shares of the CLIP in the class score.

    Attributes:
        alpha: In classes that the generator was trained on.
        beta: In all others.
    """

    alpha: float
    beta: float

    @property
    def needs_generator(self) -> bool:
        """Whether the generator's own class scores take part."""
        return self.alpha < 1 or self.beta < 1

    @property
    def needs_clip(self) -> bool:
        """Whether the CLIP's class scores take part."""
        return self.alpha > 0 or self.beta > 0


MIXTURES: Final[Mapping[str, Mixture]] = {
    "clip": Mixture(alpha=1.0, beta=1.0),
    "generator": Mixture(alpha=0.0, beta=0.0),
    "both": Mixture(alpha=0.4, beta=0.8),
    "both-odise": Mixture(alpha=0.3, beta=0.7),
    "both-odise-caption": Mixture(alpha=0.35, beta=0.65),
}
"""Rows of the papers' tables: the CLIP alone, the generator alone, both as FC-CLIP or as ODISE weighs them."""


def mix_scores(masks: MaskSet, judged_QK: Tensor | None, *, mixture: Mixture, seen: Sequence[bool]) -> Tensor:
    """Class scores of the generator and of the CLIP -> log-probabilities (Q, K + 1), "no object" last.

    Args:
        masks: What the generator says.
        judged_QK: Logits of the CLIP; may be None where the mixture leaves it out.
        mixture: Shares of both.
        seen: For each class whether the generator was trained on it.

    Raises:
        ValueError: The mixture wants class scores that the generator does not have.
    """
    if mixture.needs_generator and masks.logits_QK is None:
        raise ValueError(
            "these masks come without scores of these names, so only the CLIP can judge them; use scores 'clip'"
        )
    inside, outside = masks.logits_QK, judged_QK
    known = inside if inside is not None else outside
    assert known is not None
    inside = known if inside is None or not mixture.needs_generator else inside
    outside = known if outside is None else outside
    fused = log_mixture(
        inside[None].to(outside.device), outside[None], seen=seen, alpha=mixture.alpha, beta=mixture.beta
    )
    return with_void(fused, masks.void_Q.to(fused)[None, :, None])[0]


def seen_by(generator: MaskGenerator, names: Sequence[str]) -> list[bool]:
    """Which of the names the generator has met in training."""
    return overlapping([split_synonyms(name) for name in names], list(map(split_synonyms, generator.trained_names)))


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
