"""What a proposal is worth besides its class."""

from torch import Tensor


def with_objectness(scores_RK: Tensor, objectness_R: Tensor, *, power: float) -> Tensor:
    """Fused scores times a power of the proposal's objectness.

    Source: DITO (arXiv:2310.00161), released code: the third power of the centreness.

    Args:
        scores_RK: Probabilities of the names and the background.
        objectness_R: In [0, 1].
        power: 0 leaves the scores as they are.
    """
    return scores_RK * objectness_R[:, None] ** power
