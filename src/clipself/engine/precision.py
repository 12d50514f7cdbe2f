"""Number formats: float32, bfloat16 autocast, float16 autocast with a loss scaler."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

import torch

from clipself.choices import pick

DTYPES: Final[Mapping[str, torch.dtype | None]] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """How the forward pass computes; weights and optimizer stay float32.

    Attributes:
        dtype: Type of the autocast; None computes in float32.
        device: Where.
        scaler: Scales the loss of float16; switched off otherwise.
    """

    dtype: torch.dtype | None
    device: torch.device
    scaler: torch.amp.GradScaler

    def autocast(self) -> AbstractContextManager[None]:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None)


def make_precision(name: str, device: torch.device) -> Precision:
    """A precision by name: fp32, bf16, fp16, or "auto" (bf16 where the device multiplies it natively, else fp32).

    Raises:
        ValueError: The name is unknown, or fp16 was asked for on a CPU.
    """
    if name == "auto":
        name = "bf16" if _has_fast_bf16(device) else "fp32"
    dtype = pick(DTYPES, name, what="precision")
    if dtype is torch.float16 and device.type == "cpu":
        raise ValueError("fp16 needs an accelerator; on a CPU use precision='bf16' or 'fp32'")
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    return Precision(dtype=dtype, device=device, scaler=scaler)


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
