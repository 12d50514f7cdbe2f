"""The CLIP that learns, as losses see it: one forward pass gives all of them what they compare."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.trunk import ClipReading


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentReading:
    """What one pass of the student gives; what no loss asks for is None.

    Attributes:
        dense_BDYX: Dense map, unit vectors.
        pooled_BD: Embeddings of the whole images.
        crops_RD: Embeddings of the crops that were handed in.
        context_KBPC: What the last block compares patches by: queries, and keys.
    """

    dense_BDYX: Tensor
    pooled_BD: Tensor | None = None
    crops_RD: Tensor | None = None
    context_KBPC: Tensor | None = None

    def __iter__(self) -> Iterator[Tensor]:
        return (value for field in fields(self) if (value := getattr(self, field.name)) is not None)


class Student(nn.Module):
    """A CLIP with one forward pass, so that a wrapper for many processes sees all that is trained.

    Args:
        clip: The CLIP.
        readout: How its last block becomes a dense map.
        pooled: Whether whole images are embedded too; all blocks but the last are shared with the dense map.
    """

    def __init__(self, clip: DenseCLIP, *, readout: str = "value", pooled: bool = False) -> None:
        super().__init__()
        self.clip, self.readout, self.pooled = clip, readout, pooled

    def forward(self, images_B3HW: Tensor, crops_R3hw: Tensor | None = None) -> StudentReading:
        """Reads images, and embeds crops by the class token where there are any."""
        read = self.clip.read(images_B3HW, dense=True, pooled=self.pooled, readout=self.readout)
        assert read.dense is not None
        crops_RD = None if crops_R3hw is None or not len(crops_R3hw) else self.clip.encode_image(crops_R3hw)
        return StudentReading(dense_BDYX=read.dense, pooled_BD=read.pooled, crops_RD=crops_RD, **self.more(read))

    def more(self, read: ClipReading) -> dict[str, Tensor]:
        """What a method reads of the same pass beyond that, by its field of `StudentReading`."""
        del read
        return {}

    def seen(self) -> Tensor:
        """A number that depends on all that a pass gives, for finding the parameters that no gradient reaches."""
        patch, like = self.clip.patch_size, next(self.clip.parameters())
        with torch.enable_grad():
            return torch.stack([part.sum() for part in self(like.new_ones(1, 3, patch, 2 * patch))]).sum()
