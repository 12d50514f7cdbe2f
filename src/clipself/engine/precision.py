"""Number formats: float32, bfloat16 autocast, float16 autocast with a loss scaler."""

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Final

import torch

from clipself.choices import pick

DTYPES: Final[Mapping[str, torch.dtype | None]] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

WORTH_IT, TRIES = 1.2, 6
"""bfloat16 must be so many times as fast on a CPU to be worth its rounding; tries of each to find out."""


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
    """A precision by name: fp32, bf16, fp16, or "auto" (bf16 where the device multiplies it faster, else fp32).

    Raises:
        ValueError: The name is unknown, or fp16 was asked for on a CPU.
    """
    name = resolve_precision(name, device)
    dtype = pick(DTYPES, name, what="precision")
    if dtype is torch.float16 and device.type == "cpu":
        raise ValueError("fp16 needs an accelerator; on a CPU use precision='bf16' or 'fp32'")
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    return Precision(dtype=dtype, device=device, scaler=scaler)


def resolve_precision(name: str, device: torch.device) -> str:
    """What "auto" means on this device; other names are given back as they are."""
    if name != "auto":
        return name
    return "bf16" if _has_fast_bf16(device) else "fp32"


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        supported = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return bool(supported) and bf16_speed() > WORTH_IT
    return False


@cache
def bf16_speed() -> float:
    """How many times as fast as float32 this processor multiplies matrices of bfloat16.

    That it knows the instructions says little: an AMD of 2024 takes half the time, an Intel whose matrix unit is hidden
    from a virtual machine nearly twice. Measured once a process, in a tenth of a second, the best of several each.
    """
    times = {torch.float32: math.inf, torch.bfloat16: math.inf}
    pairs = {dtype: (torch.ones(1024, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype)) for dtype in times}
    for _ in range(TRIES):
        for dtype, (left, right) in pairs.items():
            begun = time.perf_counter()
            left @ right
            times[dtype] = min(times[dtype], time.perf_counter() - begun)
    return times[torch.float32] / times[torch.bfloat16]
