"""RegionCLIP-style pseudo labels on CLIPSelf: the teacher's name of a crop is the region's label."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.distillation.clipself import ClipSelf
from clipself.distillation.regionclip.settings import RegionClipSettings
from clipself.distillation.student import StudentReading
from clipself.engine.step import Step
from clipself.engine.task import digest_of
from clipself.losses.region_names import region_name_loss
from clipself.ops.pooling import pool_boxes
from clipself.structures import DistillBatch
from clipself.text.names import parse_names


class RegionClip(ClipSelf):
    """Regions of the dense map are told apart by names: that which the teacher finds nearest to the crop is the label.

    Source: RegionCLIP (arXiv:2112.09106) in the shape of CLIPSelf's baseline: cosines times the CLIP's own logit scale,
    binary cross entropy summed over names and averaged over regions. Negatives are names drawn for the step; the
    release counts those that its batch holds too, so that its loss depends on how a batch is cut.

    Args:
        original: The CLIP to refine, with its text tower.
        settings: Names, sentences, and how many of them a step looks at.
        how: Keywords of `ClipSelf`.

    Raises:
        ValueError: There is no text tower, or the names are none.
    """

    def __init__(self, original: DenseCLIP, *, settings: RegionClipSettings, **how: Any) -> None:
        self.naming = settings
        self.names = parse_names(list(settings.names)).names
        self.texts_KD = embed_names(original, self.names, templates=settings.templates).rows_SD
        scale: Tensor = original.clip.logit_scale  # type: ignore[assignment]
        self.scale = float(scale.detach().exp())
        super().__init__(original, settings=settings, **how)

    def terms(
        self, reading: StudentReading, batch: DistillBatch, teacher_RD: Tensor, step: Step
    ) -> Iterator[tuple[str, Tensor, str]]:
        """The names, and those terms of CLIPSelf that have a weight."""
        yield "names", self.names_sum(reading, batch, teacher_RD, step), "regions"
        for name, total, by in super().terms(reading, batch, teacher_RD, step):
            if name != "distance":
                yield name, total, by
            elif self.naming.crops_weight:
                yield "crops", self.naming.crops_weight * total, by

    def names_sum(self, reading: StudentReading, batch: DistillBatch, teacher_RD: Tensor, step: Step) -> Tensor:
        """The loss of the names, summed over all regions of a batch."""
        with torch.autocast(teacher_RD.device.type, enabled=False):
            regions_RD = F.normalize(pool_boxes(reading.dense_BDYX.float(), list(batch.boxes_norm)), dim=-1)
            labels_R = (teacher_RD @ self.texts_KD.T).argmax(1)
            drawn = torch.randperm(len(self.names), generator=step.generator("names"))[: self.naming.columns]
            counted_K = torch.zeros(len(self.names), dtype=torch.bool)
            counted_K[drawn] = True
            logits_RK = self.scale * regions_RD @ self.texts_KD.T
            return region_name_loss(logits_RK, labels_R, counted_K=counted_K.to(labels_R.device))

    def identity(self) -> dict[str, Any]:
        """The names, in their order."""
        return {"names": digest_of(self.names)}
