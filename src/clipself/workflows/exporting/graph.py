"""What an exported graph is: a module of tensors in and tensors out, and how its user prepares pictures and names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Suppress = Callable[[Tensor, Tensor, float, float], Tensor]
"""(boxes (B, N, 4), scores (B, G, N), overlap, least score) -> which of each group stay (B, G, N); see `suppress`."""

Rows = Mapping[str, NDArray[Any]]
"""Arrays of some names, by the inputs of the graph that they are."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis whose length may vary.

    Attributes:
        name: Axes of one name have one length.
        multiple: What the length is a multiple of.
        least: Least of such multiples.
    """

    name: str
    multiple: int = 1
    least: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """One model as it is exported.

    Attributes:
        kind: What it is: "dense map", "detector" or "segmenter".
        module: Takes the inputs in their order, gives a tuple of the outputs.
        inputs: Tensors that it is traced with, by name; every axis that may vary has another length than 1.
        free: For each input the axes that may vary, by their number.
        outputs: Names of what it gives.
        embed: Names -> the arrays that its inputs of names are; None where no input is.
        prepare: How a picture becomes the input `images`; see docs/export.md.
        about: More that the user of the graph should know, such as thresholds.
    """

    kind: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    free: Mapping[str, Mapping[int, Axis]]
    outputs: Sequence[str]
    prepare: Mapping[str, Any]
    embed: "Callable[[Sequence[str]], Rows] | None" = None
    about: Mapping[str, Any] | None = None

    @property
    def dynamic_shapes(self) -> dict[str, dict[int, Any]]:
        """As `torch.export` takes them."""
        known: dict[str, Any] = {}
        for axis in (axis for axes in self.free.values() for axis in axes.values()):
            known.setdefault(axis.name, torch.export.Dim(axis.name, min=axis.least))
        return {
            name: {
                place: known[axis.name] if axis.multiple == 1 else axis.multiple * known[axis.name]
                for place, axis in axes.items()
            }
            for name, axes in self.free.items()
        }


def to_array(tensor: Tensor) -> NDArray[Any]:
    """In float32 where it is a fraction."""
    held = tensor.detach().cpu()
    return np.ascontiguousarray((held.float() if held.is_floating_point() else held).numpy())
