"""DenseRC on CLIPSelf: the student has gates, and they learn by the same loss."""

from typing import Any

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.gates import plain_gates, set_gates
from clipself.backbones.mixes import own_value
from clipself.backbones.readouts import find_readout
from clipself.backbones.transformer import require_blocks
from clipself.distillation.clipself import ClipSelf
from clipself.distillation.denserc.settings import DensercSettings
from clipself.distillation.student import Student
from clipself.engine.optim import decay_groups


class DenseRc(ClipSelf):
    """CLIPSelf's loss on a dense map that is read out of the values of several blocks; see `backbones.gates`.

    The gates begin at 1 in the last block and 0 in the others, so that the first step is CLIPSelf's; they do not decay.

    Args:
        original: The CLIP to refine, of transformer blocks.
        settings: How many blocks are read, and how fast the gates learn.
        readout: One that keeps each token's own value.
        how: Other keywords of `ClipSelf`; a student that has gates keeps them.

    Raises:
        ValueError: The CLIP has no blocks, or not so many; or the readout mixes tokens.
    """

    def __init__(self, original: DenseCLIP, *, settings: DensercSettings, readout: str = "value", **how: Any) -> None:
        if find_readout(readout).function is not own_value:
            raise ValueError(
                f"DenseRC reads each token's own values, and readout {readout!r} mixes tokens; use 'value'"
            )
        self.gating = settings
        super().__init__(original, settings=settings, readout=readout, **how)

    def make_model(self) -> Student:
        """A student with gates that learn."""
        trunk = require_blocks(self.student, "DenseRC", registers=True)
        blocks, held = self.gating.blocks, self.student.gates
        if blocks is not None and (blocks > trunk.depth or (held is not None and blocks != len(held))):
            there = f"{trunk.depth} blocks" if held is None else f"gates of {len(held)} blocks"
            raise ValueError(f"method.blocks={blocks} does not fit {self.student.name}, which has {there}")
        if held is None:
            set_gates(self.student, plain_gates(blocks or trunk.depth, trunk.num_heads))
        assert self.student.gates is not None
        self.student.gates.requires_grad_(True)
        return super().make_model()

    def groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """The gates by themselves: they learn faster and do not decay."""
        gates = self.student.gates
        others = [parameter for parameter in self.learning if parameter is not gates]
        return [
            *decay_groups(others, weight_decay=weight_decay),
            {"params": [gates], "weight_decay": 0.0, "lr_scale": self.gating.gate_rate},
        ]
