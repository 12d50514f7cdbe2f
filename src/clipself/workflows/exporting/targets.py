"""What a graph is written as: one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import fx

from clipself.files import write_atomically
from clipself.workflows.exporting.graph import Graph, Suppress
from clipself.workflows.exporting.onnx_target import write_onnx
from clipself.workflows.exporting.suppression import suppress, suppress_for_onnx

Program = torch.export.ExportedProgram


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetType:
    """One row of the table.

    Attributes:
        file: Name of the file in the folder.
        write: (captured program, graph, file) -> the file.
        suppress: How doubles are suppressed in it.
        runs_on: What opens it.
    """

    file: str
    write: Callable[[Program, Graph, Path], None]
    suppress: Suppress
    runs_on: str


def write_program(program: Program, graph: Graph, file: Path) -> None:
    """Writes what `torch.export.load(file).module()` calls with the inputs by name."""
    del graph
    write_atomically(file, lambda part: torch.export.save(program, part))


def write_torchscript(program: Program, graph: Graph, file: Path) -> None:
    """Writes what `torch.jit.load(file)` calls with the inputs in their order."""
    del graph
    scripted = torch.jit.script(plain_module(program))
    write_atomically(file, lambda part: torch.jit.save(scripted, str(part)))


def plain_module(program: Program) -> fx.GraphModule:
    """A program as a module that TorchScript compiles: tensors in, tensors out, no checks of sizes, no overloads."""
    module: Any = program.module(check_guards=False)
    graph = module.graph
    for node in list(graph.nodes):
        if isinstance(node.target, torch._ops.OpOverload):
            node.target = node.target.overloadpacket
        elif node.target is torch.sym_max:  # TorchScript has numbers alone
            node.target = max
    codegen: Any = fx.graph.CodeGen
    graph.set_codegen(codegen())
    plain = fx.GraphModule(module, graph)
    plain.recompile()
    return plain


TARGETS: Final[Mapping[str, TargetType]] = {
    "onnx": TargetType(
        file="graph.onnx", write=write_onnx, suppress=suppress_for_onnx, runs_on="ONNX Runtime from 1.15 on"
    ),
    "torchscript": TargetType(
        file="graph.ts", write=write_torchscript, suppress=suppress, runs_on="torch.jit.load, after import torchvision"
    ),
    "torch-export": TargetType(
        file="graph.pt2", write=write_program, suppress=suppress,
        runs_on="torch.export.load, after import torchvision",
    ),
}  # fmt: skip
"""`--to` -> how it is written."""


@torch.no_grad()
def capture(graph: Graph) -> Program:
    """One trace of the graph for every target, for all lengths of its free axes."""
    return torch.export.export(graph.module, (), dict(graph.inputs), dynamic_shapes=graph.dynamic_shapes, strict=False)
