"""`clipself show kmeans` and `clipself show query`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowConfig:
    """What is drawn, and how."""

    model: str = "clipself-mini"
    """open_clip name, "clipself-mini", or an export folder."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    refined: Path | None = None
    """Export folder of a refined model for a column of its own."""
    image_size: int = 640
    """Longest side that the model sees, in pixels; the aspect is kept."""
    readout: str = "value"
    """How the last block becomes a dense map."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KmeansConfig(ShowConfig):
    """Groups of the dense map in matching colours: image | original | refined."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Picture files."""
    out: Path = Path("kmeans.png")
    """PNG to write."""
    clusters: int = 6
    """Groups of each map."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryConfig(ShowConfig):
    """How near each patch is to a text: image | original | refined."""

    text: Annotated[str, tyro.conf.Positional]
    """Any phrase, such as "a cat"."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Picture files."""
    out: Path = Path("query.png")
    """PNG to write."""
    templates: str = "simple"
    """Sentences around the text: simple, detection, imagenet, or a text file."""


def show_kmeans(words: Sequence[str]) -> int:
    """Draws and says where."""
    config = tyro.cli(KmeansConfig, args=words, prog="clipself show kmeans")
    from clipself.workflows.show import show_kmeans as run

    print(run(**_fields(config)))
    return 0


def show_query(words: Sequence[str]) -> int:
    """Draws and says where."""
    config = tyro.cli(QueryConfig, args=words, prog="clipself show query")
    from clipself.workflows.show import show_query as run

    print(run(**_fields(config)))
    return 0


def _fields(config: ShowConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in type(config).__dataclass_fields__}
