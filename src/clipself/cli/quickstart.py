"""`clipself quickstart`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickstartConfig:
    """Refines the packaged small CLIP on pictures without labels and leaves a report."""

    out: Path = Path("report")
    """Folder to write."""
    model: str = "clipself-mini"
    """Packaged model or export folder."""
    scenes: int = 300
    """Generated scenes to distil on; their labels are not used."""
    held_out: int = 60
    """Scenes of another seed to measure on."""
    steps: int = 240
    """Optimizer steps."""
    seed: int = 0
    """Seed of the run."""


def quickstart(words: Sequence[str]) -> int:
    """Runs it; the result is printed on the way."""
    config = tyro.cli(QuickstartConfig, args=words, prog="clipself quickstart")
    from clipself.workflows.quickstart import quickstart as run

    run(**asdict(config))
    return 0
