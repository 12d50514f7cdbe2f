"""A cascade of box heads with the texts as classifier, and a mask head (Cascade R-CNN, arXiv:1712.00726)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.detection.detectors.detic.classifier import ZeroShotClassifier, keep_best_class
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.detectors.two_stage.postprocess import select_detections
from clipself.detection.protocol import Found, Proposals
from clipself.layers.region_heads import MaskHead
from clipself.ops.boxes import clip_boxes
from clipself.ops.deltas import decode_boxes
from clipself.ops.levels import pool_levels


class BoxStage(nn.Module):
    """Two layers, then the cosines with the classes' texts and four offsets.

    Args:
        inputs: Numbers of a pooled region.
        width: Of the layers.
        texts_CD: Text embeddings of the classes.
        temperature: Factor of the cosine.
    """

    def __init__(self, *, inputs: int, width: int, texts_CD: Tensor, temperature: float) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(inputs, width), nn.Linear(width, width)
        self.cls_score = ZeroShotClassifier(width, texts_CD, temperature=temperature)
        self.bbox_pred = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        last = self.bbox_pred[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.001)
        nn.init.zeros_(last.bias)

    def forward(self, pooled_RCyx: Tensor, rows_KD: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pooled regions, and texts in place of the classes -> logits (R, K) and offsets (R, 4), in float32."""
        hidden = F.relu(self.fc2(F.relu(self.fc1(pooled_RCyx.flatten(1)))))
        return self.cls_score(hidden, rows_KD), self.bbox_pred(hidden).float()


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePass:
    """What one stage makes of its boxes.

    Attributes:
        boxes: Boxes (r, 4) of each image that it looked at.
        logits_RK: Of all of them, the background last.
        offsets_R4: From these boxes to better ones.
    """

    boxes: tuple[Tensor, ...]
    logits_RK: Tensor
    offsets_R4: Tensor

    @property
    def counts(self) -> list[int]:
        """Boxes of each image."""
        return [len(boxes) for boxes in self.boxes]


class CascadeHeads(nn.Module):
    """Stages one after another and the masks of what they found.

    Args:
        channels: Of the pyramid.
        texts_CD: Text embeddings of the classes.
        settings: Constants.
        strides: Pixels of a cell of each level that regions are read from.
    """

    def __init__(self, *, channels: int, texts_CD: Tensor, settings: DeticSettings, strides: Sequence[float]) -> None:
        super().__init__()
        own, self.strides = settings.cascade, tuple(strides)
        self.own = own
        self.stages = nn.ModuleList(
            [
                BoxStage(
                    inputs=channels * own.bins**2, width=own.width, texts_CD=texts_CD,
                    temperature=settings.temperature,
                )
                for _ in own.ious
            ]
        )  # fmt: skip
        self.mask_head = (
            MaskHead(channels=channels, convs=settings.mask_convs, norm="none", width=own.mask_width)
            if settings.mask_convs
            else None
        )

    @property
    def classifiers(self) -> list[ZeroShotClassifier]:
        """Of each stage."""
        found = [stage.cls_score for stage in self.stages]
        return [one for one in found if isinstance(one, ZeroShotClassifier)]

    def pool(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], bins: int) -> Tensor:
        """Regions of the pyramid (R, C, bins, bins) in float32."""
        with torch.autocast(maps[0].device.type, enabled=False):
            levels = [level.float() for level in maps[: len(self.strides)]]
            return pool_levels(levels, boxes, strides=self.strides, output_size=bins, finest=self.own.finest)

    def run_stage(
        self, stage: int, maps: Sequence[Tensor], boxes: Sequence[Tensor], *, rows_KD: Tensor | None = None
    ) -> StagePass:
        """One stage; the pyramid learns from each by an even share.

        Args:
            stage: Which, from 0 on.
            maps: The pyramid.
            boxes: Of each image.
            rows_KD: Texts in place of the classes, the background's among them.
        """
        pooled = self.pool(maps, boxes, self.own.bins)
        share = 1 / self.own.stages
        pooled = share * pooled + (1 - share) * pooled.detach()
        logits_RK, offsets_R4 = self.stages[stage](pooled, rows_KD)
        return StagePass(boxes=tuple(boxes), logits_RK=logits_RK, offsets_R4=offsets_R4)

    def refined(self, seen: StagePass, stage: int, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """The boxes (r, 4) of each image that a stage leads to, clipped to the image; nothing is learned from them."""
        stds = self.own.stds(stage)
        return [
            clip_boxes(decode_boxes(boxes, offsets, stds=stds, limit_shrinking=False), size=size)
            for boxes, offsets, size in zip(
                seen.boxes, torch.split(seen.offsets_R4.detach(), seen.counts), sizes, strict=True
            )
        ]

    def run(
        self, maps: Sequence[Tensor], proposals: Sequence[Proposals], sizes: Sequence[tuple[int, int]]
    ) -> list[StagePass]:  # fmt: skip
        """All stages on proposals, as at prediction; nothing is dropped between them."""
        boxes, passes = [one.boxes for one in proposals], []
        for stage in range(self.own.stages):
            passes.append(self.run_stage(stage, maps, boxes))
            boxes = self.refined(passes[-1], stage, sizes)
        return passes

    def scores(
        self, passes: Sequence[StagePass], proposals: Sequence[Proposals], *, one_class: bool = False
    ) -> list[Tensor]:
        """Scores (r, K) of each image's proposals: the mean of the stages, times objectness, rooted."""
        mean_RK = torch.stack([one.logits_RK.sigmoid() for one in passes]).mean(0)
        done = []
        for scores_rK, found in zip(torch.split(mean_RK, passes[0].counts), proposals, strict=True):
            if self.own.multiply_objectness:
                scores_rK = (scores_rK * found.scores[:, None]).sqrt()
            if one_class:
                scores_rK = F.pad(keep_best_class(scores_rK[:, :-1]), (0, 1))
            done.append(scores_rK)
        return done

    @torch.no_grad()
    def detect(
        self, maps: Sequence[Tensor], proposals: Sequence[Proposals], sizes: Sequence[tuple[int, int]],
        settings: DeticSettings,
    ) -> list[Found]:  # fmt: skip
        """Named boxes of each image, with mask logits where there is a mask head; the settings say which are kept."""
        passes = self.run(maps, proposals, sizes)
        boxes = self.refined(passes[-1], self.own.stages - 1, sizes)
        done = [
            select_detections(one, scores_rK, settings=settings)
            for one, scores_rK in zip(boxes, self.scores(passes, proposals, one_class=settings.one_class), strict=True)
        ]
        if self.mask_head is None:
            return done
        logits = self.mask_head(self.pool(maps, [found.boxes for found in done], self.own.mask_bins))
        split = torch.split(logits, [len(found.boxes) for found in done])
        return [replace(found, masks=masks) for found, masks in zip(done, split, strict=True)]
