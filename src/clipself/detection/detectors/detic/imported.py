"""Released checkpoints of Detic as folders, by the detector that the settings name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from clipself.choices import pick
from clipself.detection.detectors.detic import published
from clipself.detection.detectors.detic.c4_published import import_c4

IMPORTERS: Final[Mapping[str, Callable[..., Path]]] = {"c4": import_c4, "centernet": published.import_published}
"""`DeticSettings.heads` -> (weights, out, model=, pretrained=, settings=, classes=, text_from=) -> the folder."""


def import_published(weights: str | Path, out: str | Path, *, settings: Any, **given: Any) -> Path:
    """Writes a released checkpoint as a folder that `Detector.from_checkpoint` reads.

    Args:
        weights: The released file.
        out: Folder to write.
        settings: Those of the recipe that the file belongs to.
        given: See the importers.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file does not fit, or nothing is released of these heads.
    """
    return pick(IMPORTERS, settings.heads, what="heads of a released checkpoint")(
        weights, out, settings=settings, **given
    )
