"""CLIPSelf: the frozen CLIP's image embedding of a crop teaches the same region of the dense map."""

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import check_relatives
from clipself.backbones.trainable import train_last_blocks
from clipself.distillation.teacher_cache import TeacherCache
from clipself.losses.cosine import cosine_loss
from clipself.ops.pooling import pool_boxes
from clipself.structures import DistillBatch

CROPS_AT_ONCE = 128
"""Teacher crops in one forward pass."""


class ClipSelf:
    """The method (arXiv:2310.01403, Sec. 3): teacher and student start equal; only the student's blocks learn.

    Args:
        original: The CLIP to refine; it becomes the teacher, frozen, in evaluation mode.
        student: Where the student starts, an earlier refinement of the same CLIP; None starts at the teacher.
        trainable_blocks: Last student blocks that learn; None for all.
        readout: How the student's last block becomes a dense map.
        cache: Disk cache of teacher embeddings.

    Raises:
        ValueError: There are fewer blocks than asked for, the readout is none of this tower, or the student is of
            another CLIP.
    """

    def __init__(
        self,
        original: DenseCLIP,
        *,
        student: DenseCLIP | None = None,
        trainable_blocks: int | None = None,
        readout: str = "value",
        cache: TeacherCache | None = None,
    ) -> None:
        self.teacher = original.eval().requires_grad_(False)
        if student is not None:
            check_relatives(student, original)
        self.student = student or original.copy()
        self.student.requires_grad_(False)
        blocks = len(self.student.trunk.parts) if trainable_blocks is None else trainable_blocks
        self.learning = train_last_blocks(self.student.trunk, blocks, readout=readout)
        self.student.train()
        self.readout, self.cache = readout, cache

    def loss_sum(self, model: nn.Module, batch: DistillBatch) -> Tensor:
        """The sum of 1 - cos over all regions of a batch.

        Args:
            model: The student, possibly wrapped for many processes: the wrapper's forward pass is the one called.
            batch: Images, regions and crops, on the student's device.
        """
        teacher_RD = self.embed_crops(batch)
        dense_BDYX = model(batch.images_B3HW, readout=self.readout)
        # RoIAlign and the cosine stay in float32: a box edge in half precision is a cell off at large grids.
        with torch.autocast(dense_BDYX.device.type, enabled=False):
            student_RD = pool_boxes(dense_BDYX.float(), list(batch.boxes_norm))
            return cosine_loss(student_RD, teacher_RD.float(), reduction="sum")

    @torch.no_grad()
    def embed_crops(self, batch: DistillBatch) -> Tensor:
        """Teacher embeddings (R, D) of all crops, from the cache where it holds them."""
        if self.cache is None:
            return self._embed(batch.crops_R3hw)
        return self.cache.look_up(batch, self._embed)

    def _embed(self, crops_R3hw: Tensor) -> Tensor:
        pieces = [self.teacher.encode_image(piece) for piece in torch.split(crops_R3hw, CROPS_AT_ONCE)]
        return torch.cat(pieces).float() if pieces else crops_R3hw.new_zeros(0, self.teacher.embed_dim)
