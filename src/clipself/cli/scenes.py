"""`clipself scenes`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenesConfig:
    """Writes generated scenes with perfect labels as a COCO data set (instances and panoptic)."""

    folder: Path
    """Folder to write."""
    train: int = 400
    """Scenes of the training half."""
    val: int = 100
    """Scenes of the held-out half."""
    size: tuple[int, int] = (320, 320)
    """Height and width in pixels."""
    seed: int = 0
    """Other seeds are other worlds."""


def scenes(words: Sequence[str]) -> int:
    """Writes and says where."""
    config = tyro.cli(ScenesConfig, args=words, prog="clipself scenes")
    from clipself.data.scenes.export import write_scenes

    print(write_scenes(**asdict(config)))
    return 0
