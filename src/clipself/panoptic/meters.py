"""All scores of one way of segmenting, picture by picture."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clipself.data.panoptic import PanopticTruth
from clipself.metrics.accuracy import MeanClassAccuracy
from clipself.metrics.confusion import ConfusionMatrix
from clipself.metrics.mask_ap import MaskAP
from clipself.metrics.panoptic_quality import PanopticQuality
from clipself.panoptic.report import PanopticRow
from clipself.panoptic.to_maps import Segmented

VOID_LABEL = -1


class PanopticMeters:
    """PQ, mask AP, mIoU and the accuracy of mask classification.

    Args:
        class_is_thing: For each class whether it is a thing.
    """

    def __init__(self, class_is_thing: Sequence[bool]) -> None:
        self.is_thing = list(class_is_thing)
        count = len(self.is_thing)
        self.quality = PanopticQuality(self.is_thing)
        self.mask_ap = MaskAP(count)
        self.accuracy = MeanClassAccuracy(count, topk=(1,))
        self.confusion = ConfusionMatrix(count + 1, ignore_label=VOID_LABEL)  # the last class is no answer
        self.segments = 0
        self.occurring: set[int] = set()

    def update(self, found: Segmented, truth: PanopticTruth, covering: Tensor) -> None:
        """Adds one picture.

        Args:
            found: What was segmented, at the picture's size.
            truth: Its label.
            covering: For each true segment that is no crowd the mask that covers it, or -1.
        """
        self.quality.update(
            found.panoptic.ids_HW.cpu().numpy(),
            {segment.id: segment.label for segment in found.panoptic.segments},
            truth.ids_HW,
            truth.segments,
        )
        self._add_instances(found, truth)
        self._add_semantics(found.semantic_HW, truth)
        self.occurring |= {segment.label for segment in truth.segments}
        plain = [segment for segment in truth.segments if not segment.is_crowd]
        labels = torch.tensor([segment.label for segment in plain], dtype=torch.long)
        hit = covering >= 0
        self.segments += len(plain)
        self.accuracy.update(found.log_scores_QK1.cpu()[covering[hit], :-1], labels[hit])

    def merge(self, other: "PanopticMeters") -> None:
        """Adds the pictures of another one behind its own."""
        self.quality.merge(other.quality)
        self.mask_ap.merge(other.mask_ap)
        self.accuracy.merge(other.accuracy)
        self.confusion.merge(other.confusion)
        self.segments += other.segments
        self.occurring |= other.occurring

    def _add_instances(self, found: Segmented, truth: PanopticTruth) -> None:
        things = [segment for segment in truth.segments if self.is_thing[segment.label]]
        shape = truth.ids_HW.shape
        masks = np.stack([truth.ids_HW == one.id for one in things]) if things else np.zeros((0, *shape), dtype=bool)
        self.mask_ap.update(
            found.instances.masks_NHW.cpu().numpy(),
            found.instances.labels_N.tolist(),
            found.instances.scores_N.tolist(),
            true_masks_MHW=masks,
            true_labels=[segment.label for segment in things],
            crowd=[segment.is_crowd for segment in things],
        )

    def _add_semantics(self, semantic_HW: Tensor, truth: PanopticTruth) -> None:
        answer = torch.where(semantic_HW < 0, len(self.is_thing), semantic_HW).cpu()
        self.confusion.update(answer, torch.from_numpy(truth.labels_HW(void=VOID_LABEL)))

    def without_truth(self, names: Sequence[str]) -> tuple[str, ...]:
        """Classes of which no picture so far has a segment; they count in no mean."""
        return tuple(name for label, name in enumerate(names) if label not in self.occurring)

    def row(self, *, model: str, scores: str) -> PanopticRow:
        """The scores so far."""
        precision, accuracy = self.mask_ap.compute(), self.accuracy.compute()[1]
        return PanopticRow(
            model=model,
            scores=scores,
            quality=self.quality.compute(),
            mask_ap=precision.ap,
            mask_ap50=precision.ap50,
            miou=self.confusion.compute().miou,
            accuracy=accuracy.overall,
            class_accuracy=accuracy.mean,
            covered=100 * float(self.accuracy.counts.sum()) / self.segments if self.segments else float("nan"),
        )


def covering_masks(masks_QHW: Tensor, truth: PanopticTruth) -> Tensor:
    """The mask that covers each true segment with the largest IoU above one half, or -1.

    Args:
        masks_QHW: Mask logits at the picture's size.
        truth: The picture's label; crowds are passed over.

    Returns:
        Index of a mask for each segment that is no crowd, on the CPU.
    """
    ids = torch.from_numpy(np.ascontiguousarray(truth.ids_HW)).to(masks_QHW.device)
    plain = [segment.id for segment in truth.segments if not segment.is_crowd]
    if not plain or not len(masks_QHW):
        return torch.full((len(plain),), -1, dtype=torch.long)
    true_NP = torch.stack([ids == one for one in plain]).flatten(1).float()
    judged = (ids != 0).flatten().float()
    masks_QP = (masks_QHW > 0).flatten(1).float() * judged
    overlap_NQ = true_NP @ masks_QP.T
    union_NQ = true_NP.sum(1, keepdim=True) + masks_QP.sum(1) - overlap_NQ
    iou_N, mask_N = (overlap_NQ / union_NQ.clamp(min=1)).max(1)
    return torch.where(iou_N > 0.5, mask_N, -1).cpu()
