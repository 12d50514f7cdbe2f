"""What the CLIP says of the likeliest boxes, in one pass of the picture."""

import torch
from torch import Tensor


def most_likely(objectness_Q: Tensor, count: int) -> Tensor:
    """Places of the `count` likeliest queries, best first; of equals the first."""
    return torch.sort(objectness_Q, descending=True, stable=True).indices[:count]


def fuse(detector_RK: Tensor, clip_RK: Tensor, *, clip_share: float) -> Tensor:
    """Geometric mean of both scores in [0, 1].

    Args:
        detector_RK: The decoder's.
        clip_RK: The CLIP's.
        clip_share: Exponent of the latter; the former has the rest.
    """
    fused: Tensor = detector_RK ** (1 - clip_share) * clip_RK**clip_share
    return fused
