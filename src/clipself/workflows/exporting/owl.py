"""OWL-ViT as a graph: every token answers every name by a box and a score."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.text import make_vocabulary
from clipself.detection.detectors.owl.heads import to_canvas
from clipself.detection.detectors.owl.model import Owl
from clipself.workflows.exporting.dense_map import check_readout, prepared
from clipself.workflows.exporting.detections import limits_of, select_pairs
from clipself.workflows.exporting.graph import Axis, Graph, Rows, Suppress, to_array


class OwlGraph(nn.Module):
    """See `Owl.detect`.

    Args:
        detector: In evaluation mode.
        suppress: See `Suppress`.
    """

    def __init__(self, detector: Owl, suppress: Suppress) -> None:
        super().__init__()
        self.detector, self.suppress = detector, suppress

    def forward(self, images: Tensor, sizes: Tensor, texts: Tensor) -> tuple[Tensor, ...]:
        """Finds names.

        Args:
            images: Normalised canvases (B, 3, S, S).
            sizes: Height and width of each image's own pixels (B, 2).
            texts: Queries (K, D), one a name.

        Returns:
            As of `select_pairs`.
        """
        settings, reading = self.detector.settings, self.detector.read(images)
        scores_BPK = self.detector.heads.logits(reading, texts[None]).sigmoid()
        boxes_BP4 = to_canvas(reading.boxes_BP4, (images.shape[2], images.shape[3]))
        boxes_BP4 = boxes_BP4.clamp(min=0).minimum(limits_of(sizes))
        pairs = boxes_BP4.shape[1] if settings.nms is None else 10
        return select_pairs(
            boxes_BP4, scores_BPK.mT, suppress=self.suppress, threshold=settings.score_threshold, nms=settings.nms,
            candidates=pairs * settings.max_detections, most=settings.max_detections,
        )  # fmt: skip


def owl_graph(detector: Owl, *, suppress: Suppress) -> Graph:
    """An OWL-ViT on its own canvas, whose positions it has learnt.

    Args:
        detector: In evaluation mode.
        suppress: See `Suppress`.

    Raises:
        ValueError: Its readout needs more than the images of one graph.
    """
    settings, clip, side = detector.settings, detector.clip, detector.settings.image_size
    if settings.features == "dense":
        check_readout(settings.readout)
    framing = detector.framing()

    def embed(names: Sequence[str]) -> Rows:
        held = detector.vocabulary
        with torch.no_grad():
            detector.use(make_vocabulary(clip, names, base=held.base, **settings.spoken))
            rows = detector.asked_names()
            detector.use(held)
        return {"texts": to_array(rows)}

    texts = F.normalize(torch.randn(3, clip.embed_dim, generator=torch.Generator().manual_seed(0)), dim=1)
    return Graph(
        kind="detector", module=OwlGraph(detector, suppress).eval(),
        inputs={"images": torch.zeros(2, 3, side, side), "sizes": torch.full((2, 2), float(side)), "texts": texts},
        free={"images": {0: Axis("batch")}, "sizes": {0: Axis("batch")}, "texts": {0: Axis("names")}},
        outputs=("boxes", "scores", "labels"),
        prepare=prepared(
            framing.preprocess.mean, framing.preprocess.std, side="longest", size=side, resample="bilinear",
            canvas=side, fill=framing.grey, antialias=False,
        ),
        embed=embed,
        about={
            "score_threshold": settings.score_threshold, "nms": settings.nms,
            "max_detections": settings.max_detections,
        },
    )  # fmt: skip
