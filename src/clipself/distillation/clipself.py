"""CLIPSelf: the frozen CLIP's image embedding of a crop teaches the same region of the dense map."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import check_relatives
from clipself.backbones.trainable import freeze_unreached, train_last_parts
from clipself.distillation.keep import KeepImages
from clipself.distillation.settings import ClipSelfSettings, MethodSettings
from clipself.distillation.student import Student, StudentReading
from clipself.distillation.teacher_cache import TeacherCache
from clipself.engine.optim import decay_groups
from clipself.engine.step import Step
from clipself.losses.cosine import cosine_loss
from clipself.ops.pooling import pool_boxes
from clipself.structures import DistillBatch

CROPS_AT_ONCE = 128
"""Teacher crops in one forward pass."""
CROPS_EVEN = 16
"""Of which a pass on CUDA takes a multiple; black ones fill it up."""


class ClipSelf:
    """The method (arXiv:2310.01403, Sec. 3): teacher and student start equal; only the student's blocks learn.

    Args:
        original: The CLIP to refine; it becomes the teacher, frozen, in evaluation mode.
        settings: Of the method; this one has none.
        student: Where the student starts, an earlier refinement of the same CLIP; None starts at the teacher.
        trainable_blocks: Last student blocks that learn; None for all.
        readout: How the student's last block becomes a dense map.
        cache: Disk cache of teacher embeddings.
        keep: A term that keeps the student's embeddings of whole images; none if not given.

    Raises:
        ValueError: There are fewer blocks than asked for, the readout is none of this tower, or the student is of
            another CLIP.
    """

    def __init__(
        self,
        original: DenseCLIP,
        *,
        settings: MethodSettings | None = None,
        student: DenseCLIP | None = None,
        trainable_blocks: int | None = None,
        readout: str = "value",
        cache: TeacherCache | None = None,
        keep: KeepImages | None = None,
    ) -> None:
        self.teacher = original.eval().requires_grad_(False)
        if student is not None:
            check_relatives(student, original)
        self.student = student or original.copy()
        self.student.requires_grad_(False)
        self.settings = settings or ClipSelfSettings()
        self.readout, self.cache, self.keep = readout, cache, keep
        self.model = self.make_model()
        parts = len(self.student.trunk.parts) if trainable_blocks is None else trainable_blocks
        train_last_parts(self.student.trunk, parts)
        freeze_unreached(self.model.seen(), self.model.parameters())
        self.learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.model.train()

    def make_model(self) -> Student:
        """What learns, as the loss sees it; here `learning` is not yet known."""
        return Student(self.student, readout=self.readout, pooled=self.keep is not None)

    def groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """AdamW's groups of what learns, with "lr_scale" where the rate is another: matrices decay, vectors don't."""
        groups: list[dict[str, Any]] = decay_groups(self.learning, weight_decay=weight_decay)
        return groups

    def counts(self, batch: DistillBatch) -> dict[str, float]:
        """What the terms are means over."""
        kept = {} if self.keep is None else {"kept": self.keep.count(batch)}
        return {"regions": float(batch.num_regions), **kept}

    def losses(self, model: nn.Module, batch: DistillBatch, step: Step) -> dict[str, Tensor]:
        """This micro-batch's share of each term.

        Args:
            model: `self.model`, possibly wrapped for many processes: the wrapper's forward pass is the one called.
            batch: Images, regions and crops, on the student's device.
            step: Its totals are those of `counts`.
        """
        teacher_RD = self.embed_crops(batch).float()
        crops = None if self.keep is None else batch.crops_R3hw[self.keep.places(batch)]
        reading = model(batch.images_B3HW, crops)
        return {name: total / step.totals[by] for name, total, by in self.terms(reading, batch, teacher_RD, step)}

    def terms(
        self, reading: StudentReading, batch: DistillBatch, teacher_RD: Tensor, step: Step
    ) -> Iterator[tuple[str, Tensor, str]]:
        """Each term: its name, its sum over this batch, and the count that it is a mean over."""
        del step
        yield "distance", self.distance(reading, batch, teacher_RD), "regions"
        if self.keep is not None:
            yield "kept", self.keep.loss_sum(reading, batch, teacher_RD), "kept"

    def distance(self, reading: StudentReading, batch: DistillBatch, teacher_RD: Tensor) -> Tensor:
        """The sum of 1 - cos of region and crop, over all regions of a batch."""
        # RoIAlign and the cosine stay in float32: a box edge in half precision is a cell off at large grids.
        with torch.autocast(teacher_RD.device.type, enabled=False):
            student_RD = pool_boxes(reading.dense_BDYX.float(), list(batch.boxes_norm))
            return cosine_loss(student_RD, teacher_RD, reduction="sum")

    def identity(self) -> dict[str, Any]:
        """Facts that a continuation must share, beside the weights of teacher and student."""
        return {}

    def flush(self) -> None:
        """Brings the teacher's embeddings to the disk."""
        for cache in (self.cache, self.keep.cache if self.keep is not None else None):
            if cache is not None:
                cache.flush()

    @torch.no_grad()
    def embed_crops(self, batch: DistillBatch) -> Tensor:
        """Teacher embeddings (R, D) of all crops, from the cache where it holds them."""
        if self.cache is None:
            return self._embed(batch.crops_R3hw)
        return self.cache.look_up(batch, self._embed)

    def _embed(self, crops_R3hw: Tensor) -> Tensor:
        count = len(crops_R3hw)
        if not count:
            return crops_R3hw.new_zeros(0, self.teacher.embed_dim)
        if crops_R3hw.device.type == "cuda":  # cuDNN plans every new number of pictures: let there be few
            crops_R3hw = F.pad(crops_R3hw, (0, 0, 0, 0, 0, 0, 0, -count % CROPS_EVEN))
        pieces = [self.teacher.encode_image(piece) for piece in torch.split(crops_R3hw, CROPS_AT_ONCE)]
        return torch.cat(pieces)[:count].float()
