"""What a backbone is to a detector that brings its own; the table of them is in `trunks`."""

from typing import Final

from torch import Tensor, nn

RANDOM: Final = "random"
"""`trunk_weights` of somebody who means it."""


class DetectorTrunk(nn.Module):
    """Normalised images (B, 3, H, W) -> one map (B, C, Y, X) for each stride, finest first.

    Attributes:
        widths: Channels of each map.
        strides: Pixels from cell to cell of each.
        multiple: What sides of images must be multiples of; see `pad_to_multiple`.
    """

    widths: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int = 1

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """The maps."""
        raise NotImplementedError

    def start_from(self, weights: str | None) -> None:
        """Takes pre-trained weights, ahead of a training.

        Args:
            weights: A file, or "random".

        Raises:
            ValueError: The file does not fit, or the trunk needs one.
            FileNotFoundError: There is no such file.
        """
        raise NotImplementedError
