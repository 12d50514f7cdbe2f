"""`cora_published_names`: names and shapes of the released files, read strictly; what learns is counted."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clipself.conformance.check import Check, compare
from clipself.conformance.dense_models import Arrays
from clipself.data.detection import ClassSplit
from clipself.detection.detectors.cora.matching import SetCriterion
from clipself.detection.detectors.cora.published import read_clip, read_detector, without_twins
from clipself.detection.detectors.cora.settings import CoraSettings
from clipself.detection.region_prompt.file import PROMPT
from clipself.detection.region_prompt.regions import ResNetRegions


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Reads a state dict of ones for every released file; a tensor that does not fit is told by its name."""
    del arrays
    checks, tables = [], {}
    for name, shapes in manifest["published_names"].items():
        kind, _, model = name.partition("_")
        state = {key: torch.ones(1).expand(shape) for key, shape in shapes.items()}
        if kind == "prompt":
            tables[model] = tuple(state[PROMPT].shape) if set(state) == {PROMPT} else ()
            continue
        counted, twins = _read(kind, model, state)
        checks.append(compare(f"{name}: numbers that learn", counted, manifest["n_trainable"][name], atol=0.0))
        doubled = sum(key.startswith(tuple(manifest["aliases"][name])) for key in shapes)
        checks.append(compare(f"{name}: tensors held twice", twins, doubled, atol=0.0))
    for model, shape in tables.items():
        own = manifest["published_names"][f"region_{model}"][f"backbone.0.{PROMPT}"]
        checks.append(compare(f"prompt_{model}: shape", shape, own, atol=0.0))
    return [*checks, _check_weights(manifest["loss_weights"])]


def _read(kind: str, model: str, state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Numbers that learn of a detector or a region branch, and tensors that it holds twice."""
    once = without_twins(state, source=kind)
    twins = len(state) - len(once)
    if kind == "region":
        table = ResNetRegions(read_clip(once, model, source=kind)).prompt
        assert table is not None
        return table.numel(), twins
    nobody = ClassSplit(ids=(1,), names=("thing",), is_base=(True,))
    settings = CoraSettings(templates="simple")
    detector = read_detector(state, model=model, settings=settings, classes=nobody, source=kind)
    return sum(one.numel() for one in detector.parameters() if one.requires_grad), twins


def _check_weights(told: Mapping[str, float]) -> Check:
    """Counts the losses whose weight is another one here, or which are not computed."""
    weights, layers = SetCriterion().weights, CoraSettings().decoder_layers
    ends = ["", *(f"_{place}" for place in range(layers - 1))]
    own = {"loss_ce": weights.classes, "loss_bbox": weights.box, "loss_giou": weights.overlap}
    ours = {f"{name}{end}": weight for end in ends for name, weight in own.items()}
    differing = [name for name in {*ours, *told} if ours.get(name) != told.get(name)]
    return Check(key="weights of the losses", difference=float(len(differing)), tolerance=0.0)
