"""DeCLIP on CLIPSelf: one more term, and a student that hands out its last block's queries and keys."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.guides import find_guide
from clipself.backbones.strict import digest_tensors
from clipself.backbones.tokens import join_heads
from clipself.backbones.transformer import require_blocks
from clipself.backbones.trunk import ClipReading
from clipself.distillation.clipself import ClipSelf
from clipself.distillation.declip.settings import DeclipSettings
from clipself.distillation.student import Student, StudentReading
from clipself.engine.step import Step
from clipself.losses.context import context_loss
from clipself.ops.patch_maps import patch_cosines
from clipself.ops.pixels import plain_pixels
from clipself.structures import DistillBatch


class ContextStudent(Student):
    """A student that also gives what its last block compares: queries, and keys where they are asked for.

    Rotary positions are left out: which patches belong together is not a question of where they lie.

    Args:
        clip: A CLIP of transformer blocks.
        parts: "q", or "qk".
        how: Keywords of `Student`.
    """

    def __init__(self, clip: DenseCLIP, *, parts: str = "q", **how: Any) -> None:
        super().__init__(clip, **how)
        require_blocks(clip, "DeCLIP", registers=True)
        self.parts = parts

    def more(self, read: ClipReading) -> dict[str, Tensor]:
        """The projected patches (K, B, P, C) that enter the last block, K parts."""
        assert read.tokens is not None
        trunk, entered = require_blocks(self.clip, "DeCLIP", registers=True), read.tokens
        normed = trunk.norm_attention(trunk.blocks[-1], entered.tokens[:, entered.prefix :])
        parts = [join_heads(trunk.project(trunk.blocks[-1], normed, part)) for part in self.parts]
        return {"context_KBPC": torch.stack(parts)}


class DeClip(ClipSelf):
    """Content and context apart: the dense map learns from crops, the last block's queries from a guide.

    Source: DeCLIP (arXiv:2505.04410, Sec. 3). The first is CLIPSelf; for the second, cosines of the queries of all
    patches of an image learn to be those of the guide's patches.

    Args:
        original: The CLIP to refine, of transformer blocks.
        settings: Guide, weight, and what of the block is compared.
        how: Keywords of `ClipSelf`.

    Raises:
        ValueError: The CLIP has no blocks, or the guide is none.
    """

    def __init__(self, original: DenseCLIP, *, settings: DeclipSettings, **how: Any) -> None:
        self.context = settings
        self.guide = find_guide(settings.guide, clip=original, device=original.device)
        super().__init__(original, settings=settings, **how)

    def make_model(self) -> Student:
        """A student that hands out its context too."""
        parts = {"queries": "q", "queries+keys": "qk"}[self.context.context]
        return ContextStudent(self.student, parts=parts, readout=self.readout, pooled=self.keep is not None)

    def counts(self, batch: DistillBatch) -> dict[str, float]:
        """Patches too: the context is a mean over them."""
        rows, cols = self.grid(batch)
        return {**super().counts(batch), "patches": float(len(batch) * rows * cols)}

    def grid(self, batch: DistillBatch) -> tuple[int, int]:
        """Rows and columns of the student's patches."""
        height, width = batch.images_B3HW.shape[-2:]
        return height // self.student.patch_size, width // self.student.patch_size

    def terms(
        self, reading: StudentReading, batch: DistillBatch, teacher_RD: Tensor, step: Step
    ) -> Iterator[tuple[str, Tensor, str]]:
        """The terms of CLIPSelf, and the context."""
        yield from super().terms(reading, batch, teacher_RD, step)
        yield "context", self.context.context_weight * self.context_sum(reading, batch), "patches"

    def context_sum(self, reading: StudentReading, batch: DistillBatch) -> Tensor:
        """The lengths of the differences of the patches' rows of cosines, summed."""
        assert reading.context_KBPC is not None
        with torch.autocast(batch.images_B3HW.device.type, enabled=False):
            ours_BPP = torch.stack([patch_cosines(part.float()) for part in reading.context_KBPC]).mean(0)
            guide_BDYX = self.guide(self.plain_pixels(batch), grid=self.grid(batch)).to(ours_BPP)
            theirs_BPP = patch_cosines(guide_BDYX.flatten(2).mT)
            return context_loss(ours_BPP, theirs_BPP, reduction="sum")

    def plain_pixels(self, batch: DistillBatch) -> Tensor:
        """The student's images as RGB in [0, 1]."""
        teacher = self.teacher
        return plain_pixels(batch.images_B3HW, mean=teacher.image_mean, std=teacher.image_std).clamp(0, 1)

    def identity(self) -> dict[str, Any]:
        """The weights of the guide."""
        net: nn.Module | None = getattr(self.guide, "net", None)
        return {"guide's weights": None if net is None else digest_tensors(net.state_dict())}
