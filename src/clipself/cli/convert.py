"""`clipself convert`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertConfig:
    """Writes any checkpoint that can be loaded as a folder that stock open_clip reads."""

    model: str
    """open_clip or EVA-CLIP name, "clipself-mini", or an export folder."""
    out: Path
    """Folder to write."""
    pretrained: str | None = None
    """open_clip tag, or file of an OpenAI, open_clip, EVA-CLIP or CLIPSelf release."""
    text_from: str | None = None
    """Release whose text tower is taken."""
    quick_gelu: bool | None = None
    """Whether the activation is QuickGELU, where the file does not say so: what began as OpenAI's weights has it."""
    ignore: tuple[str, ...] = ()
    """Names or prefixes of tensors in the file that may be left out."""


def convert(words: Sequence[str]) -> int:
    """Converts and says where."""
    config = tyro.cli(ConvertConfig, args=words, prog="clipself convert")
    from clipself.workflows.weights import convert as run

    print(run(**asdict(config)))
    return 0
