"""Gates of values: a dense map out of the values of several blocks, each head of each block by a learnt weight.

Source: DenseRC (CVPR 2026), of which no code is published; what stands here is our reading of its description. What a
CLIP says of an image is written into its class token by the values of many blocks. So a patch is read by its own values
in the last K blocks, none mixed with another patch's: head h of block l is weighted by a gate, goes through the output
projection of its own block, and all are added to what entered the last block. Gates of 1 in the last block and 0 in all
others are CLIPSelf's readout.
"""

from pathlib import Path
from typing import Final, Protocol

import torch
from safetensors.torch import save
from torch import Tensor, nn

from clipself.backbones.strict import check_finite
from clipself.backbones.transformer import HasTrunk, require_blocks
from clipself.backbones.weights import read_state_dict
from clipself.files import write_bytes

GATES_NAME: Final = "value_gates.safetensors"
"""File beside the weights of an export that holds the gates, float32 (K, h)."""


def plain_gates(blocks: int, heads: int) -> Tensor:
    """Gates (K, h) that change nothing: the last block's values alone."""
    gates_Kh = torch.zeros(blocks, heads)
    gates_Kh[-1] = 1.0
    return gates_Kh


def blend_gates(student: Tensor | None, original: Tensor | None, alpha: float) -> Tensor | None:
    """Alpha * student + (1 - alpha) * original, where a model without gates has those that change nothing."""
    held = [gates for gates in (student, original) if gates is not None]
    if not held:
        return None
    blocks, heads = max(len(gates) for gates in held), held[0].shape[1]
    both = []
    for gates in (student, original):
        full = plain_gates(blocks, heads).to(held[0])
        if gates is not None:
            full.zero_()[blocks - len(gates) :] = gates.detach()
        both.append(full.double())
    return (alpha * both[0] + (1.0 - alpha) * both[1]).to(held[0].dtype)


def write_gates(gates_Kh: Tensor | None, folder: Path) -> None:
    """Writes the gates of a model into its export folder, or takes away those of an earlier export."""
    path = folder / GATES_NAME
    if gates_Kh is None:
        path.unlink(missing_ok=True)
    else:
        write_bytes(path, save({"gates": gates_Kh.detach().float().cpu().contiguous()}, metadata={"format": "pt"}))


def read_gates(folder: Path) -> Tensor | None:
    """The gates in an export folder; None where there are none.

    Raises:
        ValueError: The file is damaged, holds something else, or its numbers are not finite.
    """
    path = folder / GATES_NAME
    if not path.is_file():
        return None
    held = read_state_dict(path)
    if set(held) != {"gates"}:
        raise ValueError(f"{path} holds {', '.join(sorted(held)[:3])}, expected gates alone; put the file back")
    check_finite(held, source=str(path))
    return held["gates"]


class Gated(HasTrunk, Protocol):
    """A CLIP that can have gates; a `DenseCLIP`."""

    gates: nn.Parameter | None

    @property
    def device(self) -> torch.device: ...  # noqa: D102


def set_gates(clip: Gated, gates_Kh: Tensor | None) -> None:
    """Lets "value" read the values of a CLIP's last K blocks, each head by a weight of its own.

    Args:
        clip: A CLIP of transformer blocks; the gates are exported with it and are part of its digest.
        gates_Kh: The weights, as DenseRC learns them; None reads the last block alone.

    Raises:
        ValueError: The trunk has no blocks with a class token, or the gates are not (1 to depth, heads).
    """
    if gates_Kh is None:
        clip.gates = None
        return
    trunk = require_blocks(clip, "a readout of several blocks", registers=True)
    if gates_Kh.ndim != 2 or not 1 <= len(gates_Kh) <= trunk.depth or gates_Kh.shape[1] != trunk.num_heads:
        raise ValueError(
            f"gates {tuple(gates_Kh.shape)} do not fit {clip.name}; expected a row for each of 1 to {trunk.depth} last "
            f"blocks, and {trunk.num_heads} heads in each"
        )
    clip.gates = nn.Parameter(gates_Kh.detach().to(clip.device, torch.float32), requires_grad=False)
