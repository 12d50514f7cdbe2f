"""OV-DETR as a detector: conditions, losses, and how names are asked for at test."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.data.detection import CocoDetection
from clipself.detection.detectors.deformable.classes import count_boxes, present_classes, shuffled
from clipself.detection.detectors.deformable.loss import summed_by_kind
from clipself.detection.detectors.deformable.model import DeformableDetector, truth_of
from clipself.detection.detectors.deformable.postprocess import select_boxes
from clipself.detection.detectors.ovdetr.conditions import Conditions, draw_conditions
from clipself.detection.detectors.ovdetr.crops import CropRows, embed_crops
from clipself.detection.detectors.ovdetr.loss import Asked, ovdetr_loss
from clipself.detection.detectors.ovdetr.network import OvDetr
from clipself.detection.detectors.ovdetr.settings import OvDetrSettings
from clipself.detection.protocol import Found
from clipself.engine.step import Step
from clipself.structures import DetectionBatch


class OvDetrDetector(DeformableDetector):
    """Source: OV-DETR (arXiv:2203.11876), released code.

    The frozen CLIP speaks the names and embeds the crops by which queries are asked.

    Args:
        clip: The CLIP.
        settings: Architecture and constants.
        vocabulary: Names of training, with novel ones marked.
    """

    settings: OvDetrSettings
    network: OvDetr

    def __init__(self, clip: DenseCLIP, settings: OvDetrSettings, vocabulary: EmbeddedVocabulary) -> None:
        super().__init__(clip, settings, vocabulary)
        self.network = OvDetr(widths=self.trunk.widths, joint_dim=clip.embed_dim, **settings.sizes())
        self.loss = ovdetr_loss(settings)
        self.crops: CropRows | None = None

    def prepare(self, data: CocoDetection) -> None:
        """Takes the trunk's weights, and embeds the crops of annotated boxes."""
        super().prepare(data)
        settings = self.settings
        if settings.text_share < 1:
            self.crops = embed_crops(self.clip, data, least=settings.least_crop, most_of_class=settings.crops_of_class)

    def counts(self, batch: DetectionBatch) -> dict[str, Tensor | float]:
        """Boxes of each class, of which those count whose class is asked for."""
        most = self.settings.most_conditions if self.settings.conditions == "image" else None
        return {"boxes_of_class": count_boxes(batch, classes=len(self.vocabulary.names), most=most)}

    def forward(self, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        """This batch's share of the losses, summed over the layers."""
        counts_K = step.totals["boxes_of_class"]
        if self.settings.conditions == "step":
            counts_K = counts_K[self._classes_of_step(step)]
        conditions = self._conditions(batch, step)
        encoded = self.encode(batch.images_B3HW, batch.sizes)
        with torch.autocast(batch.images_B3HW.device.type, enabled=False):
            projected = [self.network.condition(one.rows_RD, one.of_text_R) for one in conditions]
            layers = self.network.decode(encoded, torch.stack(projected))
        asked = [
            Asked(classes_R=one.classes_R, rows_RD=one.rows_RD, labels_N=labels, boxes_N4=truth_N4)
            for one, labels, truth_N4 in zip(conditions, batch.labels, truth_of(batch), strict=True)
        ]
        terms = self.loss.terms(layers, encoded.proposals, asked, num_boxes=counts_K.sum().clamp(min=1))
        return summed_by_kind(self.loss.weigh(terms))

    def _conditions(self, batch: DetectionBatch, step: Step) -> list[Conditions]:
        """For each image what it is asked for, all of one length."""
        settings, base = self.settings, self.base_classes()
        told: dict[str, Any] = {
            "texts_KD": self.texts(), "crops": self.crops, "least": settings.least_conditions,
            "text_share": settings.text_share,
        }  # fmt: skip
        if settings.conditions == "step":
            one = draw_conditions(self._classes_of_step(step), base, generator=step.generator("conditions"), **told)
            return [one] * len(batch.names)
        drawn = []
        for boxes, labels, name in zip(batch.boxes, batch.labels, batch.names, strict=True):
            present = present_classes(boxes, labels, name=name, most=settings.most_conditions)
            drawn.append(draw_conditions(present, base, generator=step.generator("conditions", name), **told))
        longest = max(len(one.classes_R) for one in drawn)
        return [one.filled_to(longest) for one in drawn]

    def _classes_of_step(self, step: Step) -> list[int]:
        """The classes of all images of a step, shuffled, as many as are asked for at once."""
        present = step.totals["boxes_of_class"].nonzero()[:, 0].tolist()
        return shuffled(present, step.generator("classes"))[: self.settings.most_conditions]

    @torch.no_grad()
    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """The best boxes over all queries and names; names are asked for some at a time."""
        settings, vocabulary = self.settings, self.vocabulary
        encoded = self.encode(images_B3HW, sizes)
        of_text_K = torch.tensor([name not in vocabulary.pictured for name in vocabulary.names])
        conditions_KC = self.network.condition(self.texts(), of_text_K)
        some = torch.split(conditions_KC, settings.classes_at_once or len(conditions_KC))
        last = [self.network.decode(encoded, part.expand(len(sizes), -1, -1))[-1] for part in some]
        logits_BN = torch.cat([one.logits_BN for one in last], dim=1)
        boxes_BN4 = torch.cat([one.boxes_BN4 for one in last], dim=1)
        return [
            select_boxes(
                logits_N, boxes_N4, queries=encoded.queries.contents_BQC.shape[1], size=size,
                most=settings.max_detections, threshold=settings.score_threshold,
            )
            for logits_N, boxes_N4, size in zip(logits_BN, boxes_BN4, sizes, strict=True)
        ]  # fmt: skip
