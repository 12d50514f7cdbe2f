"""Deformable DETRs (OV-DETR, PromptOVD) as graphs: queries ask for names that are an input."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.text import make_vocabulary
from clipself.detection.detectors.deformable.model import DeformableDetector
from clipself.detection.detectors.deformable.network import Encoded
from clipself.detection.detectors.ovdetr.model import OvDetrDetector
from clipself.detection.detectors.promptovd.model import PromptOvd
from clipself.detection.detectors.promptovd.regions import fuse
from clipself.detection.detectors.two_stage.pixels import pixels_of
from clipself.losses.set_prediction import corners
from clipself.ops.padding import padding_of
from clipself.workflows.exporting.dense_map import prepared
from clipself.workflows.exporting.detections import gather_boxes, limits_of, pick_best
from clipself.workflows.exporting.graph import Axis, Graph, Rows, Suppress, to_array


class DeformableGraph(nn.Module):
    """Up to what the queries are asked for; see `DeformableDetector.encode`.

    Args:
        detector: In evaluation mode.
    """

    def __init__(self, detector: DeformableDetector) -> None:
        super().__init__()
        self.detector = detector

    def encode(self, images: Tensor, sizes: Tensor) -> Encoded:
        """All that does not depend on names."""
        return self.detector.network.encode(self.detector.trunk(images), padding_of(images, sizes))


class OvDetrGraph(DeformableGraph):
    """See `OvDetrDetector.detect`: all names are asked for at once."""

    detector: OvDetrDetector

    def forward(self, images: Tensor, sizes: Tensor, texts: Tensor) -> tuple[Tensor, ...]:
        """Finds names.

        Args:
            images: Normalised images (B, 3, H, W), padded right and below.
            sizes: Height and width of each image's own pixels (B, 2).
            texts: Unit rows of names (K, D).

        Returns:
            As of `select_pairs`.
        """
        settings, encoded = self.detector.settings, self.encode(images, sizes)
        conditions_BKC = self.detector.network.condition(texts, True).expand(images.shape[0], -1, -1)
        last = self.detector.network.decode(encoded, conditions_BKC)[-1]
        queries = encoded.queries.contents_BQC.shape[1]
        scores_BN = last.logits_BN.sigmoid()
        best = pick_best(scores_BN, threshold=settings.score_threshold, most=settings.max_detections)
        return best.table(corners(last.boxes_BN4) * limits_of(sizes), each=queries, own=True)


class PromptOvdGraph(DeformableGraph):
    """See `PromptOvd.detect`."""

    detector: PromptOvd

    def forward(self, images: Tensor, sizes: Tensor, texts: Tensor) -> tuple[Tensor, ...]:
        """Finds names; see `OvDetrGraph.forward`."""
        settings, encoded = self.detector.settings, self.encode(images, sizes)
        last = self.detector.network.decode(encoded, texts.expand(images.shape[0], -1, -1))[-1]
        scores_BQK = last.logits_BQK.sigmoid()
        kept_BR = scores_BQK.amax(2).topk(min(settings.rois, scores_BQK.shape[1]), dim=1).indices
        boxes_BR4 = corners(gather_boxes(last.boxes_BQ4, kept_BR)) * limits_of(sizes)
        scores_BRK = scores_BQK.gather(1, kept_BR[..., None].expand(-1, -1, texts.shape[0]))
        if settings.clip_share:
            judged_BRK = self.detector.judge(images, boxes_BR4, texts)
            scores_BRK = fuse(scores_BRK, judged_BRK, clip_share=settings.clip_share)
        scores_BP = scores_BRK.mT.flatten(1)
        best = pick_best(scores_BP, threshold=settings.score_threshold, most=settings.max_detections)
        return best.table(boxes_BR4, each=boxes_BR4.shape[1])


def deformable_graph(detector: DeformableDetector, *, suppress: Suppress) -> Graph:
    """An OV-DETR or PromptOVD on one canvas, which holds every picture.

    Args:
        detector: In evaluation mode.
        suppress: Not needed: nothing is suppressed.
    """
    del suppress
    settings, clip = detector.settings, detector.clip
    pixels, side = pixels_of(settings, clip), settings.image_size or settings.longest_side
    canvas = math.ceil(side / detector.trunk.multiple) * detector.trunk.multiple

    def embed(names: Sequence[str]) -> Rows:
        made = make_vocabulary(clip, names, base=list(detector.vocabulary.base), **settings.spoken)
        return {"texts": to_array(made.texts_KD[:-1])}

    module = PromptOvdGraph(detector) if isinstance(detector, PromptOvd) else OvDetrGraph(detector)
    texts = F.normalize(torch.randn(3, clip.embed_dim, generator=torch.Generator().manual_seed(0)), dim=1)
    return Graph(
        kind="detector", module=module.eval(),
        inputs={
            "images": torch.zeros(2, 3, canvas, canvas), "sizes": torch.full((2, 2), 0.9 * side), "texts": texts,
        },
        free={"images": {0: Axis("batch")}, "sizes": {0: Axis("batch")}, "texts": {0: Axis("names")}},
        outputs=("boxes", "scores", "labels"),
        prepare=prepared(
            pixels.mean, pixels.std, side="longest" if settings.image_size else "shortest",
            size=settings.image_size or settings.short_side, most=None if settings.image_size else side,
            resample="bilinear", canvas=canvas,
        ),
        embed=embed,
        about={"score_threshold": settings.score_threshold, "max_detections": settings.max_detections},
    )  # fmt: skip
