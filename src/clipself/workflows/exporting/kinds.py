"""What can be exported, and why the rest cannot: one table."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from clipself.choices import later
from clipself.workflows.exporting.graph import Graph

_two_stage: Final = later("clipself.workflows.exporting", "two_stage", "two_stage_graph")
_owl: Final = later("clipself.workflows.exporting", "owl", "owl_graph")
_deformable: Final = later("clipself.workflows.exporting", "deformable", "deformable_graph")
_catseg: Final = later("clipself.workflows.exporting", "catseg", "catseg_graph")

DETECTORS_EXPORTED: Final[Mapping[str, Callable[..., Graph] | str]] = {
    "fvit": _two_stage,
    "fvlm": _two_stage,
    "vild": _two_stage,
    "baron": _two_stage,
    "detic": _two_stage,
    "rovit": "its boxes are cut out of the pyramid by samples of their own, level by level in a loop over the picture",
    "owl": _owl,
    "cora": "its anchors choose their names by a look at every region, one picture after another",
    "ovdetr": _deformable,
    "promptovd": _deformable,
}
"""Detector -> its graph, or why there is none."""

SEGMENTERS_EXPORTED: Final[Mapping[str, Callable[..., Graph] | str]] = {
    "catseg": _catseg,
    "san": later("clipself.workflows.exporting", "san", "san_graph"),
}
"""Segmenter -> its graph, or why there is none."""


def graph_builder(table: Mapping[str, Callable[..., Graph] | str], method: str) -> Callable[..., Graph]:
    """How a method becomes a graph.

    Raises:
        ValueError: It does not; the message says why, and what does.
    """
    found: Any = table[method]
    if isinstance(found, str):
        others = ", ".join(name for name, row in table.items() if not isinstance(row, str))
        raise ValueError(f"{method} cannot be exported: {found}. These can: {others}")
    builder: Callable[..., Graph] = found
    return builder
