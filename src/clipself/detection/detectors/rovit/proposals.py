"""Class-free boxes by centreness: one anchor a cell says how near the middle of a thing it is, and how far its sides.

Source: DITO (arXiv:2310.00161), released code, after OLN (arXiv:2108.06753): nothing of it learns what background is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou

from clipself.detection.detectors.rovit.geometry import centreness_of, decode_sides
from clipself.detection.detectors.rovit.heads import CentrenessHead
from clipself.detection.detectors.rovit.losses import centreness_loss, overlap_loss
from clipself.detection.detectors.rovit.settings import RoVitSettings
from clipself.detection.protocol import Proposals
from clipself.ops.anchors import grid_anchors
from clipself.ops.boxes import clip_boxes
from clipself.ops.matching import draw_sample, match_boxes

BOXES: Final = (0.7, 0.3)
CENTRES: Final = (0.3, 0.1)
"""Overlap of a match, and of what is background, for boxes and for centreness."""
RESCUE: Final = 1e-6
"""A thing takes the anchor that overlaps it most, however little."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellScores:
    """What the head says of every cell.

    Attributes:
        logits_BA: Centreness (B, A), all levels one after another.
        sides_BA4: Left, right, top, bottom in sides of the anchor.
        anchors_A4: `xyxy` in canvas pixels.
        levels: Cells of each level.
    """

    logits_BA: Tensor
    sides_BA4: Tensor
    anchors_A4: Tensor
    levels: tuple[int, ...]


class CentrenessProposals(nn.Module):
    """Scores every cell of the pyramid.

    Args:
        settings: Of the detector.
        strides: Pixels of a cell of each level, finest first.
    """

    def __init__(self, settings: RoVitSettings, *, strides: Sequence[float]) -> None:
        super().__init__()
        self.settings, self.strides = settings, tuple(strides)
        self.head = CentrenessHead(channels=settings.channels, convs=settings.rpn_convs, levels=len(strides))
        self._anchors: dict[tuple[object, ...], Tensor] = {}

    def forward(self, maps: Sequence[Tensor]) -> CellScores:
        """Maps, finest first."""
        logits, sides = self.head(maps)
        return CellScores(
            logits_BA=torch.cat([level.flatten(1) for level in logits], dim=1).float(),
            sides_BA4=torch.cat([level.flatten(1, 2) for level in sides], dim=1).float(),
            anchors_A4=self.anchors(maps),
            levels=tuple(level.shape[1] * level.shape[2] for level in logits),
        )

    def anchors(self, maps: Sequence[Tensor]) -> Tensor:
        """Square anchors around the middle of every cell (A, 4), kept from call to call."""
        grids = tuple((level.shape[2], level.shape[3]) for level in maps)
        key = (grids, maps[0].device)
        if key not in self._anchors:
            made = [
                grid_anchors(grid, stride=stride, scale=self.settings.anchor_scale, ratios=(1.0,)) + stride / 2
                for grid, stride in zip(grids, self.strides, strict=True)
            ]
            self._anchors = {key: torch.cat(made).to(maps[0].device)}
        return self._anchors[key]

    @torch.no_grad()
    def propose(self, scored: CellScores, sizes: Sequence[tuple[int, int]], *, nms: float) -> list[Proposals]:
        """The best cells of each level as boxes, clipped to each image's own pixels.

        Args:
            scored: Of the cells.
            sizes: Height and width of each image's own pixels.
            nms: Overlap from which the lesser box of a level goes; none does at 1.
        """
        found = []
        for logits_A, sides_A4, size in zip(scored.logits_BA, scored.sides_BA4, sizes, strict=True):
            kept, level_of, start = [], [], 0
            for level, count in enumerate(scored.levels):
                best = logits_A[start : start + count].topk(min(self.settings.proposals_before, count)).indices + start
                kept.append(best)
                level_of.append(torch.full_like(best, level))
                start += count
            rows, levels = torch.cat(kept), torch.cat(level_of)
            boxes = clip_boxes(decode_sides(scored.anchors_A4[rows], sides_A4[rows]), size=size)
            scores = logits_A[rows].sigmoid()
            whole = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1) & boxes.isfinite().all(1)
            boxes, scores, levels = boxes[whole], scores[whole], levels[whole]
            order = (
                scores.argsort(descending=True, stable=True) if nms >= 1 else batched_nms(boxes, scores, levels, nms)
            )
            best = order[: self.settings.proposals_after]
            found.append(Proposals(boxes=boxes[best], scores=scores[best]))
        return found

    def losses(
        self, scored: CellScores, boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]],
        generators: Sequence[torch.Generator],
    ) -> dict[str, Tensor]:  # fmt: skip
        """Centreness and overlap of sampled anchors, divided by the sample and summed over the images."""
        count = self.settings.rpn_samples
        centres, overlaps = scored.logits_BA.sum() * 0, scored.sides_BA4.sum() * 0
        for image, (truth, size, generator) in enumerate(zip(boxes, sizes, generators, strict=True)):
            iou_GA = box_iou(truth, scored.anchors_A4)
            rows, targets = self._box_targets(iou_GA, truth, generator)
            decoded = decode_sides(scored.anchors_A4[rows], scored.sides_BA4[image, rows])
            overlaps = overlaps + overlap_loss(clip_boxes(decoded, size=size), targets)
            rows, wanted = self._centre_targets(iou_GA, truth, scored.anchors_A4, generator)
            centres = centres + centreness_loss(scored.logits_BA[image, rows], wanted)
        return {"centreness": centres / count, "overlap": self.settings.overlap_weight * overlaps / count}

    def _sample(self, iou_GA: Tensor, levels: tuple[float, float], generator: torch.Generator) -> tuple[Tensor, ...]:
        matched_A = match_boxes(iou_GA, high=levels[0], low=levels[1], rescue=RESCUE)
        count = self.settings.rpn_samples
        positive, negative = draw_sample(matched_A, count=count, share=(count - 1) / count, generator=generator)
        return matched_A, positive, negative

    def _box_targets(self, iou_GA: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        matched_A, positive, _ = self._sample(iou_GA, BOXES, generator)
        return positive, truth[matched_A[positive]]

    def _centre_targets(
        self, iou_GA: Tensor, truth: Tensor, anchors_A4: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        matched_A, positive, negative = self._sample(iou_GA, CENTRES, generator)
        wanted = centreness_of(truth[matched_A[positive]], anchors_A4[positive])
        return torch.cat([positive, negative]), torch.cat([wanted, wanted.new_zeros(len(negative))])
