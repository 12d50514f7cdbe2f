"""`clipself export` and `clipself export names` as functions: a folder with a graph, its card, and names."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from clipself.backbones.loading import load_clip
from clipself.backbones.refinement import dense_side, refinement_of
from clipself.cards import read_card
from clipself.choices import pick
from clipself.detection.detector import Detector
from clipself.engine.fields import build
from clipself.engine.resolve import resolve
from clipself.files import write_bytes, write_json
from clipself.segmentation.checkpoint import SEGMENTER, load_segmenter
from clipself.segmentation.segmenters import segmenter_of
from clipself.text.names import parse_names
from clipself.workflows.exporting.config import ExportConfig, NamesConfig
from clipself.workflows.exporting.dense_map import dense_map_graph
from clipself.workflows.exporting.graph import Graph, Suppress
from clipself.workflows.exporting.kinds import DETECTORS_EXPORTED, SEGMENTERS_EXPORTED, graph_builder
from clipself.workflows.exporting.segmenters import training_free_graph
from clipself.workflows.exporting.targets import TARGETS, capture

CARD: Final = "graph.json"
NAMES: Final = "names.npz"
SCRIPT: Final = "run_graph.py"
"""Files of the folder beside the graph's; the script runs it without this package and without torch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A model that was opened to be exported.

    Attributes:
        graph: What it is as a graph.
        names: Those of its training; none of a CLIP.
    """

    graph: Graph
    names: Sequence[str] = ()


def export(config: ExportConfig | None = None, /, **options: Any) -> Path:
    """Writes a model as a graph that runs without this package.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `ExportConfig`.

    Returns:
        `graph.json`, which says what the graph takes and gives.

    Raises:
        ValueError: The model cannot be a graph; the message says why.
        FileNotFoundError: A model is missing.
        ImportError: What writes the target is not installed.
    """
    config = resolve(ExportConfig, None, config, **options)
    target = pick(TARGETS, config.to, what="target")
    opened = open_graph(config, target.suppress)
    graph = opened.graph
    file = config.out / target.file
    target.write(capture(graph), graph, file)
    wanted = list(parse_names(config.names).names) if config.names else list(opened.names)
    if wanted and graph.embed is not None:
        write_names(graph, wanted, config.out / NAMES)
    told = {name: value for name, value in config.to_json().items() if name not in ("out", "names")}
    card = {
        "kind": graph.kind, "file": file.name, "runs_on": target.runs_on,
        "inputs": {name: _shape(graph, name) for name in graph.inputs}, "outputs": list(graph.outputs),
        "prepare": dict(graph.prepare), **(graph.about or {}), "names": NAMES if wanted and graph.embed else None,
        "made_from": told,
    }  # fmt: skip
    if config.to == "onnx":
        write_bytes(config.out / SCRIPT, (Path(__file__).parent / SCRIPT).read_bytes())
    return write_json(config.out / CARD, card)


def export_names(config: NamesConfig | None = None, /, **options: Any) -> Path:
    """Embeds other names for a graph that was exported; the graph stays as it is.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `NamesConfig`.

    Returns:
        The file.

    Raises:
        ValueError: There are no names, the graph takes none, or it was made by something else.
        FileNotFoundError: There is no graph, or its model is gone.
    """
    config = resolve(NamesConfig, None, config, **options)
    card: Any = read_card(config.graph / CARD)
    if not isinstance(card.get("made_from"), dict):
        raise ValueError(f"{config.graph / CARD} does not say what the graph was made from; export it again")
    known = {each.name for each in fields(ExportConfig)}
    held = {name: value for name, value in card["made_from"].items() if name in known}
    names = [] if card.get("kind") == "dense map" else list(config.names)  # which make a CLIP a segmenter
    made: ExportConfig = build(ExportConfig, {**held, "out": config.graph, "names": names})
    graph = open_graph(made, TARGETS[made.to].suppress).graph
    if graph.embed is None:
        raise ValueError(f"{made.model} has no text tower, so that names cannot be embedded; export it with text_from=")
    return write_names(graph, list(parse_names(config.names).names), config.out or config.graph / NAMES)


def open_graph(config: ExportConfig, suppress: Suppress) -> Opened:
    """The model that the settings name, as a graph.

    Args:
        config: Of the export.
        suppress: How doubles are suppressed.

    Raises:
        ValueError: It cannot be one; the message says why.
        FileNotFoundError: It is missing.
    """
    if config.checkpoint is None:
        clip = load_clip(config.model, config.pretrained, text_from=config.text_from)
        readout = config.readout or refinement_of(config.model).readout or "value"
        if config.names:
            return Opened(graph=training_free_graph(clip.eval(), readout=readout, templates=config.templates))
        size = dense_side(clip, refinement_of(config.model))
        return Opened(graph=dense_map_graph(clip.eval(), readout=readout, templates=config.templates, size=size))
    if SEGMENTER.is_in(config.checkpoint):
        return _open_segmenter(config)
    if ":" in config.checkpoint:
        raise ValueError(f"{config.checkpoint} is a model of another library; export it by that library's own means")
    detector: Any = Detector.from_checkpoint(config.checkpoint, device="cpu").model
    builder = graph_builder(DETECTORS_EXPORTED, detector.settings.method)
    return Opened(graph=builder(detector, suppress=suppress), names=detector.vocabulary.names)


def _open_segmenter(config: ExportConfig) -> Opened:
    assert config.checkpoint is not None
    model, card = load_segmenter(config.checkpoint)
    builder = graph_builder(SEGMENTERS_EXPORTED, model.settings.method)
    names = list(parse_names(config.names).names) if config.names else card["names"]
    segmenter = segmenter_of(model, names, crop=card["crop"], mode=config.mode)
    return Opened(graph=builder(segmenter), names=card["names"])


def write_names(graph: Graph, names: Sequence[str], file: Path) -> Path:
    """Writes the arrays of some names as `file`, and the names in their order as JSON beside it.

    Args:
        graph: Whose inputs they are.
        names: As they were typed.
        file: An `.npz`.
    """
    assert graph.embed is not None
    arrays: Mapping[str, Any] = graph.embed(names)
    held = io.BytesIO()
    np.savez(held, **arrays)
    write_json(file.with_suffix(".json"), list(names))
    return write_bytes(file, held.getvalue())


def _shape(graph: Graph, name: str) -> list[Any]:
    """Lengths of the axes of an input, words for those that vary."""
    shape: list[Any] = list(graph.inputs[name].shape)
    for place, axis in graph.free.get(name, {}).items():
        shape[place] = axis.name if axis.multiple == 1 else f"{axis.multiple} * {axis.name}"
    return shape
