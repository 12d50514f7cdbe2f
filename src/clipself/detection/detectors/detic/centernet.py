"""CenterNet as a class-free proposal network: one heat and four distances at each place of five levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from clipself.detection.detectors.detic.cascade_settings import CenterNetSettings
from clipself.detection.protocol import Proposals
from clipself.layers.norms import make_norm
from clipself.losses.centernet import CentreRule, CentreTargets, centre_targets, distance_losses, heat_losses
from clipself.losses.centernet import level_points as level_points

PRIOR_LOGIT = -4.595
"""Logit of one place in a hundred."""
START_DISTANCE = 8.0
"""Distances at the start, in strides."""
SHORTEST = 0.01
"""Least side of a proposal, in pixels."""


class Scale(nn.Module):
    """A learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, values: Tensor) -> Tensor:
        """The values times the factor."""
        return values * self.scale


@dataclass(frozen=True, kw_only=True, slots=True)
class CentreMaps:
    """What the head says of a batch.

    Attributes:
        logits: Of each level (B, Y, X).
        distances: To left, top, right and bottom in strides, of each level (B, Y, X, 4); not negative.
    """

    logits: tuple[Tensor, ...]
    distances: tuple[Tensor, ...]

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Rows and columns of each level."""
        return [(int(level.shape[1]), int(level.shape[2])) for level in self.logits]


class CenterNetHead(nn.Module):
    """Four convolutions that all levels share, then heat and distances; a factor of its own for each level.

    Source: CenterNet2 (arXiv:2103.07461), as Detic's OV-LVIS detector has it: no classes.

    Args:
        channels: Of the pyramid.
        strides: Pixels from place to place of each level, finest first.
        settings: Constants.

    Raises:
        ValueError: There is not one range a level.
    """

    def __init__(self, *, channels: int, strides: Sequence[int], settings: CenterNetSettings) -> None:
        super().__init__()
        if len(settings.ranges) != len(strides):
            raise ValueError(f"{len(settings.ranges)} ranges of box sizes for {len(strides)} levels; name one a level")
        self.settings, self.strides = settings, tuple(strides)
        blocks = [
            (nn.Conv2d(channels, channels, 3, padding=1), make_norm("group", channels), nn.ReLU())
            for _ in range(settings.convs)
        ]
        self.bbox_tower = nn.Sequential(*(module for block in blocks for module in block))
        self.bbox_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.agn_hm = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList([Scale() for _ in strides])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        assert self.agn_hm.bias is not None
        assert self.bbox_pred.bias is not None
        nn.init.constant_(self.agn_hm.bias, PRIOR_LOGIT)
        nn.init.constant_(self.bbox_pred.bias, START_DISTANCE)

    @property
    def rule(self) -> CentreRule:
        """Which places a box lights up."""
        held = self.settings
        return CentreRule(
            strides=self.strides, ranges=held.ranges, min_overlap=held.min_overlap, min_radius=held.min_radius
        )

    def forward(self, maps: Sequence[Tensor]) -> CentreMaps:
        """Maps (B, C, Y, X), finest first."""
        logits, distances = [], []
        for level, scale in zip(maps, self.scales, strict=True):
            features = self.bbox_tower(level)
            logits.append(self.agn_hm(features)[:, 0].float())
            distances.append(F.relu(scale(self.bbox_pred(features)).float()).permute(0, 2, 3, 1))
        return CentreMaps(logits=tuple(logits), distances=tuple(distances))

    def targets(self, found: CentreMaps, boxes: Sequence[Tensor]) -> CentreTargets:
        """What it should say of images with these boxes (r, 4)."""
        return centre_targets(boxes, found.grids, rule=self.rule)

    def loss_sums(self, found: CentreMaps, targets: CentreTargets) -> dict[str, Tensor]:
        """Weighted sums: "centres" and "rest" over the heat map, "distances" over places that a box is regressed from.

        The first two are to be divided by the number of centres, the third by that of the places.
        """
        held = self.settings
        centres, rest = heat_losses(
            torch.cat([level.flatten() for level in found.logits]), targets, alpha=held.focal_alpha,
            gamma=held.focal_gamma, beta=held.focal_beta, ignore_above=held.ignore_above,
        )  # fmt: skip
        regressed_M = targets.regressed_M
        distances_M4 = torch.cat([level.reshape(-1, 4) for level in found.distances])
        losses_R = distance_losses(distances_M4[regressed_M], targets.distances_M4[regressed_M])
        return {
            "centres": held.centre_weight * centres,
            "rest": held.rest_weight * rest,
            "distances": held.distance_weight * losses_R.sum(),
        }

    @torch.no_grad()
    def propose(self, found: CentreMaps) -> list[Proposals]:
        """For each image the best boxes with the root of their heat as scores; not clipped to the image."""
        before, after = self.settings.limits(training=self.training)
        levels = [
            self._decode(logits, distances, stride=stride, most=before)
            for logits, distances, stride in zip(found.logits, found.distances, self.strides, strict=True)
        ]
        done = []
        for image in zip(*levels, strict=True):
            boxes, scores = (torch.cat(parts) for parts in zip(*image, strict=True))
            kept = nms(boxes, scores, self.settings.nms)[:after]
            done.append(Proposals(boxes=boxes[kept], scores=scores[kept]))
        return done

    def _decode(
        self, logits_BYX: Tensor, distances_BYX4: Tensor, *, stride: int, most: int
    ) -> list[tuple[Tensor, Tensor]]:
        points_P2 = level_points((logits_BYX.shape[1], logits_BYX.shape[2]), stride=stride, like=distances_BYX4)
        done = []
        for heat_P, distances_P4 in zip(
            logits_BYX.sigmoid().flatten(1), distances_BYX4.flatten(1, 2) * stride, strict=True
        ):
            heat, places = heat_P.topk(min(most, len(heat_P)))
            places = places[heat > self.settings.score_threshold]
            points, distances = points_P2[places], distances_P4[places]
            low, high = points - distances[:, :2], points + distances[:, 2:]
            boxes = torch.cat([low, torch.maximum(high, low + SHORTEST)], dim=-1)
            done.append((boxes, heat_P[places].sqrt()))
        return done
