"""Trunks of stages: convolutional towers, whose stages are the taps and whose last stage is the dense map."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clipself.backbones.readouts import Readout, own_value
from clipself.backbones.trunk import ClipReading, Trunk


class ConvTrunk(Trunk):
    """A convolutional tower: stage after stage, then a pooling of the last one.

    A family says `stages` with their modules, how one cell of the last stage becomes an embedding (`read_tap`), and
    how a whole map does (`pool_map`).

    Attributes:
        stage_modules: One module a stage, finest first.
        pooling_modules: What follows the last stage and may learn.
    """

    stage_modules: Sequence[nn.Module]
    pooling_modules: Sequence[nn.Module] = ()

    @property
    def parts(self) -> Sequence[nn.Module]:
        """The stages, then what pools them."""
        return [*self.stage_modules, *self.pooling_modules]

    def stem(self, images_B3HW: Tensor) -> Tensor:
        """What the first stage is given."""
        return images_B3HW

    def read(
        self,
        images_B3HW: Tensor,
        *,
        taps: Sequence[int],
        dense: bool,
        pooled: bool,
        readout: Readout,
        guide: Tensor | None = None,
    ) -> ClipReading:
        """One pass through all stages."""
        maps = self.run_stages(images_B3HW)
        return ClipReading(
            taps=tuple(maps[index] for index in taps),
            dense=self.read_map(maps[-1], readout, images_B3HW=images_B3HW, guide=guide) if dense else None,
            pooled=self.pool_map(maps[-1]) if pooled else None,
        )

    def run_stages(self, images_B3HW: Tensor) -> list[Tensor]:
        """The maps of all stages, finest first.

        Raises:
            ValueError: A side is not a multiple of the last stage's stride.
        """
        self.grid_of(images_B3HW)
        return list(self.each_stage(images_B3HW))

    def each_stage(self, images_B3HW: Tensor) -> Iterator[Tensor]:
        """The map of one stage after another, of images of any size: what is left of a last cell is cut off."""
        entering = self.stem(images_B3HW)
        for stage in self.stage_modules:
            if self.grad_checkpointing and torch.is_grad_enabled():
                entering = checkpoint(stage, entering, use_reentrant=False)
            else:
                entering = stage(entering)
            yield entering

    def read_map(
        self, map_BCYX: Tensor, readout: Readout, *, images_B3HW: Tensor, guide: Tensor | None = None
    ) -> Tensor:
        """Map of the last stage -> dense map (B, D, Y, X), not normalised.

        Raises:
            ValueError: The readout mixes heads of an attention, which this tower does not have.
        """
        del images_B3HW, guide
        if readout.function is not own_value or readout.residual == "class":
            raise ValueError(
                f"this readout mixes the tokens of a last attention, and {type(self.tower).__name__} has none "
                f"(it pools by {self.pools_by}); use 'value', each cell's own embedding"
            )
        return self.read_tap(map_BCYX)

    @abstractmethod
    def pool_map(self, map_BCYX: Tensor) -> Tensor:
        """The tower's own pooling over any map of the last stage -> (B, D), not normalised."""
