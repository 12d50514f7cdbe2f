"""Exported graphs run beside the models that they were made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clipself.workflows.exporting.graph import Graph
from clipself.workflows.exporting.targets import TARGETS, capture

PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torchscript": (), "torch-export": ()}


class Written:
    """A graph in a file, opened again by what runs it."""

    def __init__(self, graph: Graph, to: str, folder: Path) -> None:
        for package in PACKAGES[to]:
            pytest.importorskip(package)
        self.graph, self.to, row = graph, to, TARGETS[to]
        file = folder / row.file
        row.write(capture(graph), graph, file)
        if to == "onnx":
            import onnxruntime

            self.opened: Any = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        else:
            script: Any = torch.jit
            self.opened = script.load(file) if to == "torchscript" else torch.export.load(file).module()

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Its outputs by name."""
        if self.to == "onnx":
            found = self.opened.run(None, {name: value.numpy() for name, value in inputs.items()})
            tensors = [torch.from_numpy(np.asarray(each)) for each in found]
        elif self.to == "torchscript":
            tensors = list(self.opened(*inputs.values()))
        else:
            tensors = list(self.opened(**inputs))
        return dict(zip(self.graph.outputs, tensors, strict=True))


def tensors(rows: Mapping[str, Any]) -> dict[str, Tensor]:
    """Arrays of names as tensors."""
    return {name: torch.from_numpy(value) for name, value in rows.items()}
