"""Boxes as their centres (CenterNet, arXiv:1904.07850; as a proposal network: arXiv:2103.07461): targets and losses."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

NOTHING: float = -1.0
"""Target distance of places that no box is regressed from."""
FAINTEST: float = 1e-4
"""Values of the heat map below this are zero."""
CLAMP: float = 1e-4
"""Probabilities stay so far from 0 and 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CentreRule:
    """Which places of which level a box lights up.

    Attributes:
        strides: Pixels from place to place of each level, finest first.
        ranges: For each level least and largest half diagonal of a box that it answers for, both included.
        min_overlap: Overlap that a box moved by the radius of the heat map still has with the true one.
        min_radius: Least radius, in pixels.
    """

    strides: Sequence[int]
    ranges: Sequence[tuple[float, float]]
    min_overlap: float = 0.8
    min_radius: float = 4.0

    @property
    def spread(self) -> float:
        """Square of the radius in areas of the box."""
        return 2 * ((1 - self.min_overlap) / (1 + self.min_overlap)) ** 2


@dataclass(frozen=True, kw_only=True, slots=True)
class CentreTargets:
    """What the places of all levels should say: level by level, within it image by image, row by row.

    Attributes:
        heat_M: Heat map in [0, 1], one for all classes.
        centres_P: Places of the boxes' centres, by image, box and level; two boxes may share one.
        distances_M4: To the left, top, right and bottom side in strides; `NOTHING` where no box is regressed.
    """

    heat_M: Tensor
    centres_P: Tensor
    distances_M4: Tensor

    @property
    def regressed_M(self) -> Tensor:
        """Places that a box is regressed from."""
        return self.distances_M4[:, 0] >= 0


def level_points(grid: tuple[int, int], *, stride: int, like: Tensor) -> Tensor:
    """Pixels (Y * X, 2), x first, of the places of a level: index * stride + stride // 2."""
    rows, cols = (torch.arange(length, device=like.device) * stride + stride // 2 for length in grid)
    y, x = torch.meshgrid(rows, cols, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2).to(like)


def centre_targets(boxes: Sequence[Tensor], grids: Sequence[tuple[int, int]], *, rule: CentreRule) -> CentreTargets:
    """Targets of a batch.

    A place's heat is exp(-d^2 / r^2) of the box that it is nearest to in its own radii, r^2 = max(spread * area,
    min_radius^2), and 1 in the cell of a centre. A box is regressed from those of the 3 x 3 cells around its centre
    that lie inside it, at the levels that answer for its size; of several boxes the one that is nearest in its radii.

    Source: CenterNet2 (arXiv:2103.07461) with its released settings.

    Args:
        boxes: For each image its boxes (r, 4) in pixels of the padded batch.
        grids: Rows and columns of each level.
        rule: Which places a box lights up.
    """
    levels = [
        [_level_targets(one, grid, stride=stride, sizes=sizes, rule=rule) for one in boxes]
        for grid, stride, sizes in zip(grids, rule.strides, rule.ranges, strict=True)
    ]
    return CentreTargets(
        heat_M=torch.cat([heat for level in levels for heat, _ in level]),
        centres_P=_centre_places(boxes, grids, rule=rule),
        distances_M4=torch.cat([distances for level in levels for _, distances in level]),
    )


def _level_targets(
    boxes_N4: Tensor, grid: tuple[int, int], *, stride: int, sizes: tuple[float, float], rule: CentreRule
) -> tuple[Tensor, Tensor]:
    points_P12 = level_points(grid, stride=stride, like=boxes_N4)[:, None]
    if not len(boxes_N4):
        return points_P12.new_zeros(len(points_P12)), points_P12.new_full((len(points_P12), 4), NOTHING)
    low_N2, high_N2 = boxes_N4[:, :2], boxes_N4[:, 2:]
    centres_N2, sides_N2 = (low_N2 + high_N2) / 2, high_N2 - low_N2
    sides_PN4 = torch.cat([points_P12 - low_N2, high_N2 - points_P12], dim=-1)
    away_PN2 = (points_P12 - ((centres_N2 / stride).int() * stride + stride / 2)).abs()
    squared_PN = (points_P12 - centres_N2).square().sum(-1).masked_fill((away_PN2 == 0).all(-1), 0.0)
    radii_PN = squared_PN / (rule.spread * sides_N2.prod(-1)).clamp(min=rule.min_radius**2)
    heat_P = (-radii_PN.min(1).values).exp()
    half_N = sides_N2.square().sum(-1).sqrt() / 2
    taken_PN = (sides_PN4 > 0).all(-1) & (away_PN2 <= stride).all(-1) & (half_N >= sizes[0]) & (half_N <= sizes[1])
    nearest = radii_PN.masked_fill(~taken_PN, float("inf")).min(1)
    places = torch.arange(len(points_P12), device=points_P12.device)
    distances_P4 = sides_PN4[places, nearest.indices] / stride
    return (
        heat_P.masked_fill(heat_P < FAINTEST, 0.0),
        distances_P4.masked_fill(nearest.values.isinf()[:, None], NOTHING),
    )


def answering_levels(boxes_N4: Tensor, *, rule: CentreRule) -> Tensor:
    """Which levels (N, L) answer for a box's half diagonal."""
    ranges_L2 = boxes_N4.new_tensor(list(rule.ranges))
    half_N1 = (boxes_N4[:, 2:] - boxes_N4[:, :2]).square().sum(-1, keepdim=True).sqrt() / 2
    return (half_N1 >= ranges_L2[:, 0]) & (half_N1 <= ranges_L2[:, 1])


def _centre_places(boxes: Sequence[Tensor], grids: Sequence[tuple[int, int]], *, rule: CentreRule) -> Tensor:
    areas = [rows * cols for rows, cols in grids]
    starts = list(accumulate([len(boxes) * area for area in areas], initial=0))[:-1]
    found = []
    for image, boxes_N4 in enumerate(boxes):
        centres_N12 = ((boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2)[:, None]
        cells_NL2 = (centres_N12 / boxes_N4.new_tensor(list(rule.strides))[:, None]).long()
        first_L, cols_L = (
            cells_NL2.new_tensor(values)
            for values in (
                [start + image * area for start, area in zip(starts, areas, strict=True)],
                [cols for _, cols in grids],
            )
        )
        places_NL = first_L + cells_NL2[..., 1] * cols_L + cells_NL2[..., 0]
        found.append(places_NL[answering_levels(boxes_N4, rule=rule)])
    return torch.cat(found)


def heat_losses(
    logits_M: Tensor,
    targets: CentreTargets,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    beta: float = 4.0,
    ignore_above: float = 0.85,
) -> tuple[Tensor, Tensor]:
    """The focal loss of a heat map at the centres and everywhere else, both summed.

    Source: CenterNet (arXiv:1904.07850), Eq. 1; places that are found strongly without a centre are left alone
    (arXiv:2103.07461, released code), since they may be objects that nobody labelled.

    Args:
        logits_M: Of all places, in the order of the targets.
        targets: Of the batch.
        alpha: Weight of the centres, 1 - alpha that of the rest; below 0 for none.
        gamma: Exponent of what is missing to the right answer.
        beta: Exponent of the distance from a centre's heat.
        ignore_above: Probability from which a place without a centre is not punished; not above 0 for never.
    """
    p_M = logits_M.float().sigmoid().clamp(CLAMP, 1 - CLAMP)
    p_P = p_M[targets.centres_P]
    centres = -(p_P.log() * (1 - p_P) ** gamma).sum()
    rest_M = -(1 - p_M).log() * p_M**gamma * (1 - targets.heat_M) ** beta
    if ignore_above > 0:
        rest_M = rest_M * (p_M < ignore_above)
    return (alpha * centres, (1 - alpha) * rest_M.sum()) if alpha >= 0 else (centres, rest_M.sum())


def distance_losses(found_R4: Tensor, wanted_R4: Tensor) -> Tensor:
    """1 - GIoU (R,) of boxes around the same places, each told by its distances to the four sides.

    Source: GIoU (arXiv:1902.09630) with 1 added above and below in its first part, as FCOS and CenterNet2 do.
    """
    found_R22, wanted_R22 = found_R4.reshape(-1, 2, 2), wanted_R4.reshape(-1, 2, 2)  # (left, top), (right, bottom)
    shared = torch.minimum(found_R22, wanted_R22).sum(1).prod(-1)
    hull = torch.maximum(found_R22, wanted_R22).sum(1).prod(-1)
    union = found_R22.sum(1).prod(-1) + wanted_R22.sum(1).prod(-1) - shared
    return 1 - ((shared + 1) / (union + 1) - (hull - union) / hull)
