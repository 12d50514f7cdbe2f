"""What of our graphs torch's exporter has no ONNX operators for; needs onnxscript."""

from collections.abc import Mapping
from typing import Any

import torch
from onnxscript import FLOAT
from onnxscript import opset18 as op

from clipself.workflows.exporting.suppression import OPERATOR


def suppressed(boxes: FLOAT[...], scores: FLOAT[...], overlap: float, least: float) -> Any:
    """`suppression.suppress` by NonMaxSuppression, whose rows are image, group and box of what stays."""
    most = op.Shape(boxes, start=1, end=2)
    stays = op.NonMaxSuppression(
        boxes, scores, most, op.Constant(value_floats=[overlap]), op.Constant(value_floats=[least])
    )
    nothing = op.Cast(op.Mul(scores, op.Constant(value_float=0.0)), to=6)
    ones = op.Expand(op.Constant(value_ints=[1]), op.Shape(stays, start=0, end=1))
    return op.Cast(op.ScatterND(nothing, stays, op.Cast(ones, to=6)), to=9)


def sorted_stably(values: FLOAT[...], stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """`aten.sort.stable` by TopK, of whose equals the first comes first."""
    assert stable
    count = op.Shape(values, start=dim, end=dim + 1)
    return op.TopK(values, count, axis=dim, largest=int(descending), sorted=1)


def translations() -> Mapping[Any, Any]:
    """Operator of torch -> what stands for it."""
    return {OPERATOR: suppressed, torch.ops.aten.sort.stable: sorted_stably}
