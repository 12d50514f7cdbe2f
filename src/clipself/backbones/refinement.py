"""What a model folder says of the run that refined it: the readout and the size that it is best read with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipself.backbones.loading import export_folder
from clipself.cards import read_card


@dataclass(frozen=True, kw_only=True, slots=True)
class Refinement:
    """Settings of the distillation behind a model.

    Attributes:
        readout: How its last block was read.
        image_size: Side of the student's images, in pixels.
    """

    readout: str | None = None
    image_size: int | None = None


def refinement_of(model: str | Path) -> Refinement:
    """What the card of a model says; nothing is known of a model without one, or of one that was never refined.

    Args:
        model: As `load_clip` is given it.
    """
    folder = export_folder(model)
    if folder is None or not (folder / "model_card.json").is_file():
        return Refinement()
    settings: Any = read_card(folder / "model_card.json").get("settings")
    held = settings if isinstance(settings, dict) else {}
    readout, size = held.get("readout"), held.get("image_size")
    return Refinement(
        readout=readout if isinstance(readout, str) else None, image_size=size if isinstance(size, int) else None
    )
