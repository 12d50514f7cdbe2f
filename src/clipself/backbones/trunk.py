"""What every vision trunk says of itself and gives in one pass: taps, a dense map, a pooled embedding."""

from abc import ABC, abstractmethod
from collections import abc
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from clipself.backbones.readouts import Readout
from clipself.backbones.tokens import Tokens
from clipself.ops.patches import nearest_whole

PoolsBy = Literal["class token", "attention", "mean"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One place of a trunk that can be tapped: a block of a transformer, a stage of a convolutional tower.

    Attributes:
        width: Channels of its map.
        stride: Pixels from cell to cell.
    """

    width: int
    stride: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipReading:
    """What one pass of the image tower gives; what was not asked for is empty or None.

    Attributes:
        taps: One map (B, C, Y, X) for each index asked for, in the same order.
        dense: Dense map (B, D, Y, X).
        pooled: Image embeddings (B, D).
        tokens: Where a transformer's blocks stopped: what a continuation, or the last block, starts from.
    """

    taps: tuple[Tensor, ...] = ()
    dense: Tensor | None = None
    pooled: Tensor | None = None
    tokens: Tokens | None = None


class Trunk(ABC):
    """A view of a stock vision tower; it owns no parameters and changes none of the tower's code.

    A new family is one subclass in one file and one line in `trunks.TRUNKS`: of `TransformerTrunk` or `ConvTrunk`,
    which know all but the family's own parts. Who uses a trunk asks for what it can do, never for its family.

    Attributes:
        tower: The stock module.
        stages: All that can be tapped, in the order of the pass.
        has_class_token: Whether a class token stands ahead of the patches.
        pools_by: What makes an image embedding of the last stage.
        patch_size: Stride of the dense map, in pixels; sides of images are multiples of it.
        native_grid: Rows and columns of the dense map at the size of pre-training.
        embed_dim: Width of the joint space.
        gates: Weights (K, h) of the heads of the last K blocks, by which "value" reads; see `backbones.gates`.
    """

    gates: Tensor | None = None
    has_class_token = False
    pools_by: PoolsBy
    first_tap = 0
    """Lowest index that can be tapped; -1 where a transformer also hands out what enters its first block."""
    tower: nn.Module
    stages: tuple[Stage, ...]
    patch_size: int
    native_grid: tuple[int, int]
    embed_dim: int

    def __init__(self) -> None:
        self.grad_checkpointing = False

    @property
    def width(self) -> int:
        """Channels of the last stage."""
        return self.stages[-1].width

    @property
    def is_pyramid(self) -> bool:
        """Whether the stages are maps of several strides, each its own level of a feature pyramid."""
        return len({stage.stride for stage in self.stages}) > 1

    @property
    @abstractmethod
    def parts(self) -> abc.Sequence[nn.Module]:
        """What can learn piece by piece, counted from the end: blocks, or stages and what pools them."""

    @abstractmethod
    def read(
        self,
        images_B3HW: Tensor,
        *,
        taps: abc.Sequence[int],
        dense: bool,
        pooled: bool,
        readout: Readout,
        guide: Tensor | None = None,
    ) -> ClipReading:
        """One pass; embeddings are not normalised. See `DenseCLIP.read`."""

    @abstractmethod
    def read_tap(self, tap_BCYX: Tensor) -> Tensor:
        """Last tap -> dense map (B, D, Y, X) of each cell's own value, not normalised."""

    def pool_map(self, map_BCYX: Tensor) -> Tensor:
        """The tower's own pooling over any map of the last stage, such as a region of it -> (B, D).

        Raises:
            ValueError: The tower pools by a class token, which has no map.
        """
        raise ValueError(f"{type(self.tower).__name__} pools by a {self.pools_by}, so that no map can be pooled alone")

    def grid_of(self, images_B3HW: Tensor) -> tuple[int, int]:
        """Rows and columns of the dense map of these images.

        Raises:
            ValueError: The images are not (B, 3, H, W) or a side is not a multiple of the patch.
        """
        if not isinstance(images_B3HW, Tensor):
            raise ValueError(
                f"images must be a tensor (B, 3, H, W), got {type(images_B3HW).__name__}; "
                "clip.preprocess(picture)[None] makes one of a picture"
            )
        if images_B3HW.ndim != 4 or images_B3HW.shape[1] != 3:
            raise ValueError(
                f"images must be (B, 3, H, W), got {tuple(images_B3HW.shape)}; stack them with torch.stack"
            )
        if not images_B3HW.is_floating_point():
            raise ValueError(
                f"images are {images_B3HW.dtype}, expected normalised floats; clip.preprocess(picture)[None] makes them"
            )
        height, width = images_B3HW.shape[-2:]
        patch = self.patch_size
        if height % patch or width % patch or not height or not width:
            fit = tuple(nearest_whole(side, patch) for side in (height, width))
            raise ValueError(
                f"images of {height} x {width} pixels do not divide into patches of {patch}; "
                f"resize or pad them to {fit[0]} x {fit[1]}"
            )
        return height // patch, width // patch
