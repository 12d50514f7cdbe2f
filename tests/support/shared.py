"""The folder of real images that may lie beside the project; tests that want it skip where it is absent."""

import os
from pathlib import Path

import pytest


def shared_dir() -> Path | None:
    """The folder named by CLIPSELF_SHARED, else `../shared` beside the clone, else None."""
    named = os.environ.get("CLIPSELF_SHARED")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared"
    return folder if (folder / "data").is_dir() else None


def require_shared(*parts: str) -> Path:
    """The path inside that folder, or a skip that says what is missing."""
    folder = shared_dir()
    if folder is None or not folder.joinpath(*parts).exists():
        pytest.skip(f"needs {'/'.join(parts)} in the folder named by CLIPSELF_SHARED")
    return folder.joinpath(*parts)
