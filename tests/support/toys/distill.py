"""A way to distil in one file: CLIPSelf, and regions that are alike where their crops are."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.distillation.clipself import ClipSelf
from clipself.distillation.settings import MethodSettings
from clipself.distillation.student import StudentReading
from clipself.engine.step import Step
from clipself.ops.pooling import pool_boxes
from clipself.structures import DistillBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class ToySettings(MethodSettings):
    """One number."""

    method: str = field(default="toy", init=False)
    weight: float = 0.5

    def check(self) -> None:
        self.check_not_negative("weight")


class ToyMethod(ClipSelf):
    """Cosines of the regions of each image, beside those of their crops."""

    def terms(
        self, reading: StudentReading, batch: DistillBatch, teacher_RD: Tensor, step: Step
    ) -> Iterator[tuple[str, Tensor, str]]:
        yield from super().terms(reading, batch, teacher_RD, step)
        assert isinstance(self.settings, ToySettings)
        sizes = [len(boxes) for boxes in batch.boxes_norm]
        ours = F.normalize(pool_boxes(reading.dense_BDYX.float(), list(batch.boxes_norm)), dim=-1)
        pairs = zip(torch.split(ours, sizes), torch.split(teacher_RD, sizes), strict=True)
        apart = [(one @ one.T - two @ two.T).square().mean(1).sum() for one, two in pairs]
        yield "alike", self.settings.weight * torch.stack(apart).sum(), "regions"
