"""The two-stage detectors (F-ViT, F-VLM and relatives) as a graph of fixed numbers of proposals and detections."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.text import make_vocabulary
from clipself.detection.detectors.two_stage.model import BINS, MASK_BINS, TwoStage
from clipself.detection.detectors.two_stage.pixels import pixels_of
from clipself.detection.detectors.two_stage.proposals_network import UNIT
from clipself.detection.detectors.two_stage.regions import STDS
from clipself.ops.anchors import grid_anchors
from clipself.ops.deltas import decode_boxes
from clipself.workflows.exporting.dense_map import any_size, check_readout, prepared
from clipself.workflows.exporting.detections import NOTHING, gather_boxes, limits_of, select_pairs
from clipself.workflows.exporting.graph import Axis, Graph, Rows, Suppress, to_array


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a detector compares regions with, as inputs of the graph: the part of a vocabulary that it looks at.

    Attributes:
        texts_KD: Unit rows of the names and of the background, last.
        base_K: Which of them training saw.
    """

    texts_KD: Tensor
    base_K: Tensor


class TwoStageGraph(nn.Module):
    """The detector's own parts, with tables of fixed length where it has lists of what was found.

    Args:
        detector: In evaluation mode.
        suppress: See `Suppress`.
    """

    def __init__(self, detector: TwoStage, suppress: Suppress) -> None:
        super().__init__()
        self.detector, self.suppress = detector, suppress

    def forward(self, images: Tensor, sizes: Tensor, texts: Tensor, base: Tensor) -> tuple[Tensor, ...]:
        """Finds names.

        Args:
            images: Normalised canvases (B, 3, H, W).
            sizes: Height and width of each image's own pixels (B, 2).
            texts: Unit rows of names and background (K + 1, D).
            base: Which of them training saw (K + 1,).

        Returns:
            Boxes (B, N, 4) in pixels of the canvas, scores (B, N), labels (B, N), the best first; what is not there has
            score 0 and label -1. With a mask head their logits (B, N, 28, 28).
        """
        batch = images.shape[0]
        detector: Any = self.detector  # which takes boxes in a list too; a graph has them in one tensor
        limits_B14 = limits_of(sizes)
        with _asked(detector, Asked(texts_KD=texts, base_K=base)):
            features = detector.backbone(images, dense=True)
            *maps, extra = detector.pyramid(detector.taps(features.taps))
            boxes_BR4, chances_BR = self.propose([*maps, extra], limits_B14)
            rois_R5 = _rois(boxes_BR4)
            embeddings_RD, deltas_R4 = detector.box_head(detector.pool(maps, rois_R5, BINS))
            scores_RK = detector.fuse(detector.classify(embeddings_RD.float()), features, rois_R5)
        count = boxes_BR4.shape[1]
        moved_BR4 = _clip(decode_boxes(boxes_BR4, deltas_R4.float().reshape(batch, count, 4), stds=STDS), limits_B14)
        scores_BRK = scores_RK[:, :-1].reshape(batch, count, -1)
        scores_BRK = scores_BRK.where(chances_BR[..., None] > NOTHING, NOTHING)
        found = select_pairs(
            moved_BR4, scores_BRK.mT, suppress=self.suppress, threshold=detector.settings.score_threshold,
            nms=detector.settings.nms, candidates=detector.settings.max_candidates,
            most=detector.settings.max_detections,
        )  # fmt: skip
        if detector.mask_head is None:
            return found
        logits = detector.mask_head(detector.pool(maps, _rois(found[0]), MASK_BINS))
        return (*found, logits.reshape(batch, -1, *logits.shape[1:]))

    def propose(self, maps: Sequence[Tensor], limits_B14: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, R, 4) and chances (B, R), `NOTHING` where there are no more; see `ProposalNetwork.propose`."""
        proposer: Any = self.detector.proposer
        settings = proposer.settings
        logits, deltas = proposer.head(maps)
        boxes, chances = [], []
        for level, stride, logits_BA, deltas_BA4 in zip(maps, proposer.strides, logits, deltas, strict=True):
            anchors_A4 = grid_anchors(
                (level.shape[2], level.shape[3]), stride=stride, scale=proposer.scales, ratios=proposer.ratios,
                device=level.device,
            )  # fmt: skip
            more = settings.proposals_before  # so that there are as many, however small the map is
            best_BP = F.pad(logits_BA.float(), (0, more), value=float("-inf")).topk(more, dim=1)
            place_BP4 = best_BP.indices[..., None].expand(-1, -1, 4)
            moved = decode_boxes(
                F.pad(anchors_A4, (0, 0, 0, more))[best_BP.indices],
                F.pad(deltas_BA4.float(), (0, 0, 0, more)).gather(1, place_BP4), stds=UNIT,
            )  # fmt: skip
            moved = _clip(moved, limits_B14)
            whole = ((moved[..., 2:] - moved[..., :2]) > 0).all(-1) & moved.isfinite().all(-1)
            boxes.append(moved)
            chances.append(best_BP.values.sigmoid().where(whole & best_BP.values.isfinite(), NOTHING))
        boxes_BN4, chances_BN = torch.cat(boxes, dim=1), torch.cat(chances, dim=1)
        levels_LN = _blocks(len(maps), settings.proposals_before, device=chances_BN.device)
        apart_BLN = chances_BN[:, None].where(levels_LN, NOTHING)
        stays_BN = self.suppress(boxes_BN4, apart_BLN, settings.proposal_nms, NOTHING).any(1)
        most = min(settings.proposals_after, len(maps) * settings.proposals_before)
        best_BR = chances_BN.where(stays_BN, NOTHING).topk(most, dim=1)
        return gather_boxes(boxes_BN4, best_BR.indices), best_BR.values


@contextmanager
def _asked(detector: Any, asked: Asked) -> Iterator[None]:
    held = detector.vocabulary
    detector.vocabulary = asked
    try:
        yield
    finally:
        detector.vocabulary = held


def _rois(boxes_BR4: Tensor) -> Tensor:
    """As `join_boxes`, for a batch."""
    batch, count = boxes_BR4.shape[:2]
    images_B11 = torch.arange(batch, device=boxes_BR4.device, dtype=boxes_BR4.dtype)[:, None, None]
    return torch.cat([images_B11.expand(-1, count, -1), boxes_BR4], dim=-1).flatten(0, 1)


def _blocks(levels: int, each: int, *, device: torch.device) -> Tensor:
    """Which boxes are of a level, (L, L * each), True or False."""
    return torch.eye(levels, device=device, dtype=torch.bool).repeat_interleave(each, dim=1)


def _clip(boxes: Tensor, limits: Tensor) -> Tensor:
    return boxes.clamp(min=0).minimum(limits)


def two_stage_graph(detector: Any, *, suppress: Suppress) -> Graph:
    """A two-stage detector with its thresholds.

    Args:
        detector: In evaluation mode.
        suppress: See `Suppress`.

    Raises:
        ValueError: It is one of Detic's own networks, a region prompt pools its regions, or its readout needs more than
            one picture's images.
    """
    if not isinstance(detector, TwoStage):
        raise ValueError(
            f"Detic with heads {detector.settings.heads!r} runs a network of its own, whose cascade or last stage on "
            "every region the graph does not hold; export Detic on a CLIP (heads 'clip')"
        )
    settings, clip = detector.settings, detector.clip
    check_readout(settings.readout)
    if settings.prompt is not None:
        raise ValueError(
            "a detector with a region prompt runs the last stage of its ResNet on every region, which the graph does "
            "not hold; export one without"
        )
    pixels, step, known = pixels_of(settings, clip), clip.patch_size, Axis("names_and_background", least=3)
    base = list(detector.vocabulary.base)

    def embed(names: Sequence[str]) -> Rows:
        made = make_vocabulary(clip, names, base=base, **settings.spoken)
        return {"texts": to_array(made.texts_KD), "base": to_array(made.base_K)}

    example = {
        "images": torch.zeros(2, 3, 5 * max(step, 32), 7 * max(step, 32)),
        "sizes": torch.tensor([[4.0 * step, 5.0 * step], [3.0 * step, 7.0 * step]]),
        "texts": F.normalize(torch.randn(4, clip.embed_dim, generator=torch.Generator().manual_seed(0)), dim=1),
        "base": torch.tensor([True, False, True, True]),
    }
    return Graph(
        kind="detector", module=TwoStageGraph(detector, suppress).eval(), inputs=example,
        free={
            "images": any_size(step, least=4), "sizes": {0: Axis("batch")}, "texts": {0: known}, "base": {0: known},
        },
        outputs=("boxes", "scores", "labels", *(("masks",) if detector.mask_head is not None else ())),
        prepare=prepared(
            pixels.mean, pixels.std, side="longest", size=settings.image_size, resample="bilinear",
            canvas=settings.image_size,
        ),
        embed=embed,
        about={
            "score_threshold": settings.score_threshold, "nms": settings.nms,
            "max_detections": settings.max_detections, "background": "the last row of texts",
        },
    )  # fmt: skip
