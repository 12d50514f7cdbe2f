"""`clipself blend`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class BlendConfig:
    """alpha * student + (1 - alpha) * original, for one alpha or a sweep."""

    student: Path
    """Export folder of the refined model."""
    out: Path
    """Folder to write; a sweep writes one folder an alpha below it."""
    original: str = "clipself-mini"
    """open_clip name, "clipself-mini", or export folder of the model it started from."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named original."""
    alphas: tuple[float, ...] = (0.7,)
    """Shares of the student, each in [0, 1]."""


def blend(words: Sequence[str]) -> int:
    """Blends and says where."""
    config = tyro.cli(BlendConfig, args=words, prog="clipself blend")
    from clipself.workflows.weights import blend as run

    for folder in run(**asdict(config)):
        print(folder)
    return 0
