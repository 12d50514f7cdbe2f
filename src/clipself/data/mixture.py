"""How often each picture is drawn where pictures of several kinds are mixed."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


def repeat_factors(labels: Sequence[Sequence[int]], *, threshold: float) -> Tensor:
    """How often each picture should come, so that rare classes are seen more often: the largest factor of its classes.

    A class that a share f of the pictures holds has the factor max(1, sqrt(threshold / f)).
    Source: LVIS (arXiv:1908.03195), Appendix B.1.

    Args:
        labels: Classes of each picture, as often as they come; a picture without any has the factor 1.
        threshold: Share below which a class is rare; 0 for none.

    Returns:
        (N,), in float32.
    """
    held = [set(classes) for classes in labels]
    images_of = Counter(label for classes in held for label in classes)
    factor = {label: max(1.0, (threshold * len(labels) / count) ** 0.5) for label, count in images_of.items()}
    return torch.tensor([max((factor[label] for label in classes), default=1.0) for classes in held])


def mixture_weights(factors: Sequence[Tensor], ratio: Sequence[float]) -> list[Tensor]:
    """Weight of each picture of each kind in a draw: kinds share the draws by the ratio, whatever their sizes.

    Source: Detic (arXiv:2201.02605), released sampler; the largest kind's pictures weigh their share of the ratio.

    Args:
        factors: For each kind those of its pictures, such as `repeat_factors`.
        ratio: Share of each kind.

    Raises:
        ValueError: There are not as many kinds as shares, or a share is not above 0.
    """
    if len(factors) != len(ratio) or not all(share > 0 for share in ratio):
        raise ValueError(f"{len(factors)} kinds of pictures need as many shares above 0, got the ratio {tuple(ratio)}")
    most = max(map(len, factors))
    return [
        factor * (len(factor) / factor.sum()) * (most / len(factor)) * (share / sum(ratio))
        for factor, share in zip(factors, ratio, strict=True)
    ]
