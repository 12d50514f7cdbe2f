"""ONNX: torch's exporter on a captured program, and the one operator that it lacks."""

import warnings
from pathlib import Path
from typing import Any, Final

import torch

from clipself.files import write_atomically
from clipself.workflows.exporting.graph import Graph

OPSET: Final = 18
"""Version of ONNX's operators; every onnxruntime from 1.15 on has them."""


def write_onnx(program: torch.export.ExportedProgram, graph: Graph, file: Path) -> None:
    """Writes a program as one ONNX file, weights inside.

    Args:
        program: What `torch.export` captured of the graph.
        graph: For the names of inputs and outputs.
        file: To write.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        OSError: The disk is full or the folder cannot be written.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError("--to onnx needs onnx and onnxscript; pip install 'clipself[onnx]'") from error
    from clipself.workflows.exporting.onnx_operators import translations

    with warnings.catch_warnings():  # it calls -1 another sampling than ONNX's 0; both take as many as a bin has pixels
        warnings.filterwarnings("ignore", "ONNX export for RoIAlign with a non-zero sampling_ratio")
        made: Any = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=list(graph.inputs),
            output_names=list(graph.outputs), custom_translation_table=dict(translations()), verbose=False,
            external_data=False,
        )  # fmt: skip
    write_atomically(file, lambda part: made.save(part))
