"""Released checkpoints of others: what their readers are given, and the one way to write what they read as a folder."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.backbones.text import EmbeddedVocabulary, make_vocabulary
from clipself.backbones.weights import read_state_dict, weights_in
from clipself.choices import pick
from clipself.data.detection import ClassSplit
from clipself.detection.checkpoint import save_detector
from clipself.detection.detectors.table import DETECTORS


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A released file and what is said of it.

    Attributes:
        weights: The file.
        model: open_clip name of the CLIP that the detector stands on or is spoken to by.
        pretrained: Its tag or file; not asked where the released file holds the CLIP.
        text_from: Release of its text tower, where `pretrained` holds none.
        settings: Those of the recipe that the file belongs to.
        classes: Names that it was trained with, in the released order: ascending ids.
    """

    weights: Path
    model: str
    settings: Any
    classes: ClassSplit
    pretrained: str | None = None
    text_from: str | None = None

    @property
    def source(self) -> str:
        """The file, for messages."""
        return str(self.weights)

    def read_state(self, **how: Any) -> dict[str, Tensor]:
        """Its tensors; `how` is for `read_state_dict`."""
        return read_state_dict(self.weights, **how)

    def load_clip(self) -> DenseCLIP:
        """The CLIP that is named, not the one that may be in the file.

        Raises:
            ValueError: It has no text tower.
        """
        clip = load_clip(self.model, self.pretrained, text_from=self.text_from)
        if clip.identity.text is None:
            raise ValueError("a detector of names needs a text tower; name its release with text_from (--text-from)")
        return clip

    def speak(self, clip: DenseCLIP) -> EmbeddedVocabulary:
        """The classes as this CLIP says them."""
        return make_vocabulary(clip, self.classes.names, base=self.classes.base, **self.settings.spoken)


def import_released(weights: str | Path, out: str | Path, *, settings: Any, **said: Any) -> Path:
    """Writes a released checkpoint as a folder that `Detector.from_checkpoint` reads.

    A CLIP that the released file holds is written beside the heads; another one is named.

    Args:
        weights: The released file, or a folder that holds it.
        out: Folder to write.
        settings: Those of the recipe that the file belongs to.
        said: The other fields of `Release`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file does not fit, there is no text tower, or nothing of this detector is released.
    """
    row = pick(DETECTORS, settings.method, what="detection method")
    if row.published is None:
        raise ValueError(f"there is no released checkpoint of {settings.method} that can be read")
    release = Release(weights=weights_in(weights), settings=settings, **said)
    detector, card = row.published(release), {"from": release.weights.name}
    clip: dict[str, Any] = {"model": release.model, "pretrained": release.pretrained, "text_from": release.text_from}
    if row.holds_clip:
        clip = {"model": str(save_clip(detector.clip, Path(out) / "backbone", card=card))}
    return save_detector(detector, out, **clip, card=card)


def rename_released(
    state: Mapping[str, Tensor],
    table: Sequence[tuple[str, str]],
    *,
    system: str,
    left_out: Callable[[str], bool] = lambda name: False,
) -> dict[str, Tensor]:
    """Gives the tensors of a released checkpoint our names.

    Args:
        state: By their names.
        table: (pattern of the beginning of a name, what stands in its place); the first that matches counts, and what
            follows stays.
        system: Whose released detectors have such names, for the message.
        left_out: Whether a name has no place here.

    Raises:
        ValueError: A name is not in the table.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if left_out(name):
            continue
        ours = next((re.sub(rf"^{theirs}", our, name) for theirs, our in table if re.match(theirs, name)), None)
        if ours is None:
            raise ValueError(
                f"{name} {tuple(tensor.shape)} is not a name of {system}; was the file made by another detector?"
            )
        renamed[ours] = tensor
    return renamed
