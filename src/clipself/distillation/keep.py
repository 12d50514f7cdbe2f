"""What must not be forgotten: the student's embedding of whole images, and of some crops, stays the teacher's."""

import zlib
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePath

import torch
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.distillation.student import StudentReading
from clipself.distillation.teacher_cache import TeacherCache
from clipself.losses.cosine import cosine_loss
from clipself.structures import DistillBatch
from clipself.text.printable import name_bytes


class KeepImages:
    """A term beside the regions: 1 - cos of student and teacher, both by their class token, as a mean over images.

    The paper's loss has no such term, and its students forget what they said of whole images; its author named a global
    alignment as the remedy. It costs the student no more than its last block once more for one token.

    Args:
        teacher: The frozen CLIP; it embeds the very pixels that the student sees.
        weight: Of the mean, beside the mean over regions.
        crops: Share of each image's crops that are kept like whole images, in [0, 1].
        cache: Disk cache of the teacher's embeddings of whole images.
    """

    def __init__(
        self, teacher: DenseCLIP, *, weight: float, crops: float = 0.0, cache: TeacherCache | None = None
    ) -> None:
        self.teacher, self.weight, self.crops, self.cache = teacher, weight, crops, cache

    def places(self, batch: DistillBatch) -> list[int]:
        """Rows of the crops that are kept: of each image, cells drawn by its file's name and their count.

        Evenly spaced ones would lie in one column of a grid in every image. The draw asks neither step nor process, so
        that a run that goes on, with however many of them, keeps the same.
        """
        found, start = list[int](), 0
        for name, boxes in zip(batch.names, batch.boxes_norm, strict=True):
            found += [start + place for place in _draw(PurePath(name).name, len(boxes), self.crops)]
            start += len(boxes)
        return found

    def count(self, batch: DistillBatch) -> float:
        """How many embeddings the mean runs over."""
        return float(len(batch) + len(self.places(batch)))

    def loss_sum(self, reading: StudentReading, batch: DistillBatch, teacher_RD: Tensor) -> Tensor:
        """The weighted sum over whole images and kept crops.

        Args:
            reading: Of the student, with whole images, and with the crops of `places`.
            batch: On the student's device.
            teacher_RD: The teacher's embeddings of all crops.
        """
        assert reading.pooled_BD is not None
        ours, theirs = [reading.pooled_BD], [self.embed_images(batch)]
        if reading.crops_RD is not None:
            ours, theirs = [*ours, reading.crops_RD], [*theirs, teacher_RD[self.places(batch)]]
        return self.weight * cosine_loss(torch.cat(ours).float(), torch.cat(theirs).float(), reduction="sum")

    @torch.no_grad()
    def embed_images(self, batch: DistillBatch) -> Tensor:
        """The teacher's embeddings (B, D) of the whole images, from the cache where it holds them."""
        if self.cache is None:
            return self._embed(batch.images_B3HW)
        whole = batch.boxes_norm[0].new_tensor([[0.0, 0.0, 1.0, 1.0]])
        images = replace(batch, boxes_norm=(whole,) * len(batch), crops_R3hw=batch.images_B3HW)
        return self.cache.look_up(images, self._embed)

    def _embed(self, images_B3HW: Tensor) -> Tensor:
        return self.teacher.encode_image(images_B3HW).float()


@lru_cache(maxsize=4096)
def _draw(file: str, held: int, share: float) -> tuple[int, ...]:
    """Some of the crops of an image; a step asks three times for those of each."""
    seed = zlib.crc32(name_bytes(f"{file} {held}"))
    order = torch.randperm(held, generator=torch.Generator().manual_seed(seed))
    return tuple(sorted(order[: int(share * held + 0.5)].tolist()))
