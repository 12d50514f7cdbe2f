"""Average precision of scored masks, by COCO's evaluator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipself.metrics.coco_ap import coco_ap
from clipself.ops.run_lengths import encode_mask as encode_mask


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskPrecision:
    """Average precision in percent; NaN where there is nothing to find.

    Attributes:
        ap: Mean over IoU 0.50 to 0.95.
        ap50: At IoU 0.50.
        ap75: At IoU 0.75.
        per_class: `ap` of each class; NaN where it has no instance.
    """

    ap: float
    ap50: float
    ap75: float
    per_class: tuple[float, ...]


class MaskAP:
    """Collects masks of all images as run lengths, then lets pycocotools compare them.

    Args:
        num_classes: Size of the vocabulary.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.images: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []

    def update(
        self,
        masks_NHW: NDArray[np.bool_],
        labels: Sequence[int],
        scores: Sequence[float],
        *,
        true_masks_MHW: NDArray[np.bool_],
        true_labels: Sequence[int],
        crowd: Sequence[bool],
    ) -> None:
        """Adds one image.

        Args:
            masks_NHW: Predicted masks, with `labels` and `scores`.
            labels: Class of each.
            scores: Score of each.
            true_masks_MHW: Instances, with `true_labels` and `crowd`.
            true_labels: Class of each.
            crowd: Whether it is a crowd, which can be neither found nor missed.

        Raises:
            ValueError: Predicted and true masks differ in size.
        """
        if masks_NHW.shape[1:] != true_masks_MHW.shape[1:]:
            raise ValueError(
                f"predicted masks are {masks_NHW.shape[1:]}, true ones {true_masks_MHW.shape[1:]}; resize them first"
            )
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "height": masks_NHW.shape[1], "width": masks_NHW.shape[2]})
        for mask, label, is_crowd in zip(true_masks_MHW, true_labels, crowd, strict=True):
            row = _row(image_id, mask, label)
            self.truth.append({**row, "id": len(self.truth) + 1, "iscrowd": int(is_crowd)})
        for mask, label, score in zip(masks_NHW, labels, scores, strict=True):
            self.found.append({**_row(image_id, mask, label), "score": float(score)})

    def merge(self, other: "MaskAP") -> None:
        """Adds the images of another one behind its own."""
        images, truth = len(self.images), len(self.truth)
        self.images += [{**row, "id": row["id"] + images} for row in other.images]
        self.truth += [{**row, "id": row["id"] + truth, "image_id": row["image_id"] + images} for row in other.truth]
        self.found += [{**row, "image_id": row["image_id"] + images} for row in other.found]

    def compute(self) -> MaskPrecision:
        """The precision so far."""
        if not self.truth:
            nothing = float("nan")
            return MaskPrecision(ap=nothing, ap50=nothing, ap75=nothing, per_class=(nothing,) * self.num_classes)
        categories = [{"id": label + 1, "name": str(label)} for label in range(self.num_classes)]
        truth = {"images": self.images, "annotations": self.truth, "categories": categories}
        scores = coco_ap(truth, self.found, iou_type="segm")
        return MaskPrecision(
            ap=100 * scores.summary["AP"],
            ap50=100 * scores.summary["AP50"],
            ap75=100 * scores.summary["AP75"],
            per_class=tuple(100 * scores.ap_per_class[label + 1] for label in range(self.num_classes)),
        )


def _row(image_id: int, mask: NDArray[np.bool_], label: int) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "category_id": label + 1,
        "segmentation": encode_mask(mask),
        "area": int(mask.sum()),
        "bbox": _box(mask),
    }


def _box(mask: NDArray[np.bool_]) -> list[int]:
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return [0, 0, 0, 0]
    return [int(cols[0]), int(rows[0]), int(cols[-1] - cols[0] + 1), int(rows[-1] - rows[0] + 1)]
