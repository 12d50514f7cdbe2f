"""Models made alike everywhere, without drawing the random numbers that a checkpoint would replace."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

DRAWS: Final = frozenset({torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default})
"""What initialisers draw new tensors with, in place."""


class _OneRowDrawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = torch.Generator().manual_seed(0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func is torch.ops.aten.erfinv_.default:
            return args[0]
        if func not in DRAWS:
            return func(*args, **(kwargs or {}))
        # Never nothing at all: a truncated normal draws until every number lies within its bounds.
        row = func(args[0].new_empty(args[0].shape[-1:]), *args[1:], generator=self.generator)
        return args[0].copy_(row)


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules made inside repeat one drawn row where they would draw a whole random weight.

    Drawing 430 million numbers takes 5 s of loading an L/14; a strict load replaces every one of them. Constants
    (norms, temperatures, masks, rotary tables) are set as ever; the global random state is left alone.
    """
    with _OneRowDrawn():
        yield


@contextmanager
def in_float32() -> Iterator[None]:
    """New tensors hold float32 inside, whatever a caller has made PyTorch's default."""
    kind = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(kind)


@contextmanager
def plain_numbers() -> Iterator[None]:
    """Modules made inside are float32 on the CPU, whatever a caller has made PyTorch's defaults."""
    with in_float32(), torch.device("cpu"):
        yield
