"""Places at which masks are compared: read bilinearly, drawn where a mask is undecided.

Source: PointRend (arXiv:1912.08193), as Mask2Former (arXiv:2112.01527) uses it.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

OVERSAMPLE: Final = 3.0
"""Candidate points for each point that is kept (PointRend)."""
UNCERTAIN_SHARE: Final = 0.75
"""Share of the points taken where the mask is least certain; the rest is uniform."""


def sample_points(maps_NHW: Tensor, points: Tensor) -> Tensor:
    """Reads maps bilinearly at relative places; beyond the border lies zero.

    Args:
        maps_NHW: Maps (N, H, W).
        points: Places `xy` in [0, 1]; (P, 2) for all maps alike, or (N, P, 2) for each map its own.

    Returns:
        Values (N, P).
    """
    grid = 2 * points.to(maps_NHW) - 1
    if points.ndim == 2:  # maps as channels of one picture: one look-up serves all of them
        return F.grid_sample(maps_NHW[None], grid[None, :, None], align_corners=False)[0, :, :, 0]
    return F.grid_sample(maps_NHW[:, None], grid[:, :, None], align_corners=False)[:, 0, :, 0]


def draw_points(*shape: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform places (*shape, 2), drawn on the CPU so that every device sees the same ones."""
    return torch.rand(*shape, 2, generator=generator).to(like.device)


@torch.no_grad()
def uncertain_points(logits_MYX: Tensor, num_points: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Draws places for each mask, most of them where it is nearest to undecided.

    Source: PointRend (arXiv:1912.08193), Sec. 3.1.

    Args:
        logits_MYX: Mask logits.
        num_points: Places for each mask.
        generator: Of the chance; torch's own if not given.

    Returns:
        Places (M, P, 2), `xy` in [0, 1].
    """
    count, uncertain = len(logits_MYX), int(UNCERTAIN_SHARE * num_points)
    drawn = draw_points(count, int(OVERSAMPLE * num_points), like=logits_MYX, generator=generator)
    doubt = -sample_points(logits_MYX.float(), drawn).abs()
    kept = doubt.topk(uncertain, dim=1).indices
    near = drawn.gather(1, kept[..., None].expand(-1, -1, 2))
    return torch.cat([near, draw_points(count, num_points - uncertain, like=near, generator=generator)], dim=1)
