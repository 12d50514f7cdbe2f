"""The frozen CLIP as a detector sees it: taps for the pyramid and the dense map for the second opinion."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP, to_map


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What one pass of the frozen backbone gives.

    Attributes:
        taps: Maps (B, C, Y, X) after the tapped blocks.
        dense: Dense map (B, D, Y, X) of unit length; None while training does not need it.
    """

    taps: tuple[Tensor, ...]
    dense: Tensor | None


class FrozenClip(nn.Module):
    """A dense CLIP that neither learns nor changes mode; one pass gives the taps and the dense map.

    Source: F-ViT (CLIPSelf, detection). The last tap is the last block as the readout runs it, ahead of the final norm;
    the dense map is that tap through the final norm and the projection.

    Args:
        clip: The backbone; its parameters stop learning.
        taps: 0-based blocks, ascending; the last must be the trunk's last.
        readout: How the last block runs.

    Raises:
        ValueError: The last tap is not the last block.
    """

    def __init__(self, clip: DenseCLIP, *, taps: tuple[int, ...], readout: str = "value") -> None:
        super().__init__()
        depth = clip.trunk.depth
        if not taps or taps[-1] != depth - 1:
            raise ValueError(
                f"taps {taps} must end with the last block {depth - 1} of {clip.name}, which the dense map is made of"
            )
        self.clip = clip.eval().requires_grad_(False)
        self.tapped, self.readout = taps, readout

    @property
    def width(self) -> int:
        """Channels of the taps."""
        return self.clip.trunk.width

    def train(self, mode: bool = True) -> "FrozenClip":
        """Stays in evaluation mode whatever is asked."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def forward(self, images_B3HW: Tensor, *, dense: bool = True) -> Features:
        """Normalised images -> taps, and the dense map where wanted."""
        taps = self.clip.taps(images_B3HW, self.tapped, readout=self.readout)
        return Features(taps=tuple(taps), dense=self.read_dense(taps[-1]) if dense else None)

    def read_dense(self, last_tap_BCYX: Tensor) -> Tensor:
        """Last tap -> dense map (B, D, Y, X) of unit length."""
        grid = (last_tap_BCYX.shape[2], last_tap_BCYX.shape[3])
        patches_BPD = self.clip.trunk.head(last_tap_BCYX.flatten(2).mT)
        return to_map(F.normalize(patches_BPD, dim=-1), grid)
