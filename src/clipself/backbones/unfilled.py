"""Models made without drawing the random numbers that a checkpoint would replace."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

FILLS: Final = frozenset(
    {torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default, torch.ops.aten.erfinv_.default}
)
"""What initialisers fill new tensors with, in place."""


class _WithoutFills(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        return args[0] if func in FILLS else func(*args, **(kwargs or {}))


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules made inside keep whatever memory held where they would draw random weights.

    Drawing 430 million numbers takes 5 s of loading an L/14; a strict load replaces every one of them. Constants
    (norms, temperatures, masks, rotary tables) are set as ever.
    """
    with _WithoutFills():  # type: ignore[no-untyped-call]
        yield
