"""`clipself data prepare`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from clipself.data.prepare import archive_help


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    """Converts an official archive of semantic segmentation."""

    archive: Annotated[str, tyro.conf.Positional]
    """Which one; see above."""
    root: Path
    """Where it was unpacked."""
    out: Path
    """Folder for the maps and dataset.json; the pictures stay where they are."""
    partial_archive: bool = False
    """Accept fewer maps than the official split has."""


def data_prepare(words: Sequence[str]) -> int:
    """Converts and says where."""
    about = "Converts an official archive of semantic segmentation.\n\n" + "\n\n".join(archive_help())
    config = tyro.cli(PrepareConfig, args=words, prog="clipself data prepare", description=about)
    from clipself.data.prepare import prepare

    print(prepare(config.archive, config.root, config.out, partial_archive=config.partial_archive))
    return 0
