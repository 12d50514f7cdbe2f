"""Region proposal network: class-free boxes from anchors, on a pyramid of any strides."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou

from clipself.detection.detectors.two_stage.settings import TwoStageSettings
from clipself.detection.protocol import Proposals
from clipself.layers.region_heads import AnchorHead
from clipself.ops.anchors import grid_anchors
from clipself.ops.deltas import decode_boxes, encode_boxes
from clipself.ops.matching import draw_sample, match_boxes

UNIT = (1.0, 1.0, 1.0, 1.0)
RATIOS = (0.5, 1.0, 2.0)
MATCH, BACKGROUND, RESCUE, SHARE = 0.7, 0.3, 0.3, 0.5
"""Overlap of a match, of background at most, of a rescued anchor at least; largest share of matched anchors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnchorScores:
    """What the network says of every anchor.

    Attributes:
        logits_BA: Objectness (B, A), all levels one after another.
        deltas_BA4: Offsets (B, A, 4).
        anchors_A4: `xyxy` in canvas pixels.
        levels: Anchors of each level.
    """

    logits_BA: Tensor
    deltas_BA4: Tensor
    anchors_A4: Tensor
    levels: tuple[int, ...]


class ProposalNetwork(nn.Module):
    """Source: Faster R-CNN (arXiv:1506.01497), with F-ViT's constants: plain L1, unit deltas, 2000 before and 1000
    after a suppression at 0.7, in training and at test.

    Args:
        settings: Of the detector.
        strides: Pixels of a cell of each level, finest first.
        channels: Of the maps; the pyramid's if not given.
        convs: Convolutions; those of the settings if not given.
        scales: Roots of the anchors' areas, in strides; that of the settings if not given.
        ratios: Their heights over their widths.
    """  # noqa: D205

    def __init__(
        self, settings: TwoStageSettings, *, strides: Sequence[float], channels: int | None = None,
        convs: int | None = None, scales: Sequence[float] | None = None, ratios: Sequence[float] = RATIOS,
    ) -> None:  # fmt: skip
        super().__init__()
        self.settings, self.strides = settings, tuple(strides)
        self.scales, self.ratios = tuple(scales or (settings.anchor_scale,)), tuple(ratios)
        self.head = AnchorHead(
            channels=channels or settings.channels,
            convs=settings.rpn_convs if convs is None else convs,
            anchors=len(self.scales) * len(self.ratios),
            norm=settings.norm if settings.rpn_norm else "none",
        )
        self._anchors: dict[tuple[object, ...], Tensor] = {}

    def forward(self, maps: Sequence[Tensor]) -> AnchorScores:
        """Scores every anchor of the pyramid."""
        logits, deltas = self.head(maps)
        return AnchorScores(
            logits_BA=torch.cat(logits, dim=1).float(),
            deltas_BA4=torch.cat(deltas, dim=1).float(),
            anchors_A4=self.anchors(maps),
            levels=tuple(level.shape[1] for level in logits),
        )

    def anchors(self, maps: Sequence[Tensor]) -> Tensor:
        """Anchors of all levels (A, 4), kept from call to call."""
        grids = tuple((level.shape[2], level.shape[3]) for level in maps)
        key = (grids, maps[0].device)
        if key not in self._anchors:
            made = [
                grid_anchors(grid, stride=stride, scale=self.scales, ratios=self.ratios)
                for grid, stride in zip(grids, self.strides, strict=True)
            ]
            self._anchors = {key: torch.cat(made).to(maps[0].device)}
        return self._anchors[key]

    @torch.no_grad()
    def propose(
        self, scored: AnchorScores, sizes: Sequence[tuple[int, int]], *, limits: tuple[int, int] | None = None
    ) -> list[Proposals]:
        """The best anchors, moved, clipped to each image's own pixels, near doubles removed within a level.

        Args:
            scored: Of every anchor.
            sizes: Height and width of each image's own pixels.
            limits: Proposals of a level ahead of the suppression and of an image after it; those of the settings if not
                given.
        """
        settings = self.settings
        before, after = limits or (settings.proposals_before, settings.proposals_after)
        found = []
        for logits_A, deltas_A4, size in zip(scored.logits_BA, scored.deltas_BA4, sizes, strict=True):
            kept, level_of, start = [], [], 0
            for level, count in enumerate(scored.levels):
                best = logits_A[start : start + count].topk(min(before, count)).indices + start
                kept.append(best)
                level_of.append(torch.full_like(best, level))
                start += count
            rows, levels = torch.cat(kept), torch.cat(level_of)
            boxes = decode_boxes(scored.anchors_A4[rows], deltas_A4[rows], stds=UNIT, size=size)
            scores = logits_A[rows].sigmoid()
            whole = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1) & boxes.isfinite().all(1)
            boxes, scores, levels = boxes[whole], scores[whole], levels[whole]
            best = batched_nms(boxes, scores, levels, settings.proposal_nms)[:after]
            found.append(Proposals(boxes=boxes[best], scores=scores[best]))
        return found

    def losses(
        self, scored: AnchorScores, boxes: Sequence[Tensor], generators: Sequence[torch.Generator]
    ) -> dict[str, Tensor]:
        """Objectness and L1 of sampled anchors: for each image the mean over its sample, summed over the images."""
        objectness, offsets = scored.logits_BA.sum() * 0, scored.deltas_BA4.sum() * 0
        for image, (truth, generator) in enumerate(zip(boxes, generators, strict=True)):
            iou_GA = box_iou(truth, scored.anchors_A4)
            matched_A = match_boxes(iou_GA, high=MATCH, low=BACKGROUND, rescue=RESCUE)
            positive, negative = draw_sample(
                matched_A, count=self.settings.rpn_samples, share=SHARE, generator=generator
            )
            rows = torch.cat([positive, negative])
            count = max(1, len(rows))
            wanted = torch.zeros(len(rows), device=rows.device)
            wanted[: len(positive)] = 1.0
            logits = scored.logits_BA[image, rows]
            objectness = objectness + F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / count
            targets = encode_boxes(scored.anchors_A4[positive], truth[matched_A[positive]], stds=UNIT)
            offsets = offsets + (scored.deltas_BA4[image, positive] - targets).abs().sum() / count
        return {"objectness": objectness, "anchor_boxes": offsets}
