"""Training state on disk: written whole or not at all, read without running code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipself.files import write_atomically

FORMAT = "clipself training state 2"
OLD_FORMAT = "clipself training state 1"


def save_state(path: str | Path, state: Mapping[str, Any]) -> Path:
    """Writes a training state atomically; an older one stays until the new one is complete.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    return write_atomically(path, lambda part: torch.save({**state, "format": FORMAT}, part))


def load_state(path: str | Path) -> dict[str, Any]:
    """Reads a training state.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The file is damaged or is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no training state at {path}; start the run without resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}); remove it and start the run again") from error
    if isinstance(state, dict) and state.get("format") == OLD_FORMAT:
        raise ValueError(
            f"{path} was written by an older version of clipself, whose runs cannot be continued; finish it with that "
            "version, or start anew with overwrite"
        )
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} is not a training state of this package; model weights are loaded by load_clip")
    return state
