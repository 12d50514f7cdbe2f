"""What a model folder says of the run that refined it: the readout and the size that it is best read with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.loading import export_folder
from clipself.cards import read_card

PUBLISHED_SIDE: Final = 1024
"""Side of the square input in the paper's Table 2, for models of 224 pixels and more."""


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


def dense_side(clip: DenseCLIP, refinement: Refinement | None = None) -> int:
    """Side of the square input that a dense map is best read at, in pixels; a multiple of the patch.

    A refined model is read at the size it was refined at. Others at the published 1024 pixels; a small model, made
    for less than 224 pixels, at twice its own size.

    Args:
        clip: The model.
        refinement: What its card says.
    """
    refined = refinement.image_size if refinement else None
    if refined is not None and refined > 0 and refined % clip.patch_size == 0:
        return refined
    own = max(clip.image_size)
    wanted = PUBLISHED_SIDE if own >= 224 else 2 * own
    return max(1, round(wanted / clip.patch_size)) * clip.patch_size
