"""Region prompts on disk: one table of positions under the released name, in a folder that names its CLIP or alone."""

from pathlib import Path
from typing import Final

from torch import Tensor

from clipself.backbones.head_folder import HeadKind
from clipself.backbones.strict import check_fit
from clipself.backbones.weights import read_state_dict

PROMPT: Final = "attnpool.positional_embedding"
"""Name of the only tensor."""

PROMPT_FOLDER: Final = HeadKind(
    name="region prompt", stem="prompt", written_by="`detect prompt`", old_keys={}, clip_part="image"
)
"""How a trained prompt's folder looks: `prompt.safetensors`, which other commands take, and its card."""


def read_prompt(path: str | Path, *, like: Tensor) -> Tensor:
    """Reads a prompt that `clipself detect prompt` wrote, or a released one.

    Args:
        path: Its file.
        like: Positions of the attention pool that it is for.

    Returns:
        Positions (1 + P, C) on the device of `like`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else, or is of another CLIP.
    """
    held = read_state_dict(path)
    check_fit(
        held, {PROMPT: like}, source=str(path),
        advice=f"a region prompt is one tensor, {PROMPT}, of the size of the CLIP's own; see `clipself detect prompt`",
    )  # fmt: skip
    return held[PROMPT].to(like)
