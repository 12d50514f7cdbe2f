"""Released checkpoints of Detic, by the detector that the settings name."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from clipself.choices import pick
from clipself.detection.detectors.detic import published
from clipself.detection.detectors.detic.c4_published import read_c4
from clipself.detection.released import Release

READERS: Final[Mapping[str, Callable[[Release], Any]]] = {"c4": read_c4, "centernet": published.read_published}
"""`DeticSettings.heads` -> the detector of a released checkpoint."""


def read_published(release: Release) -> Any:
    """The detector of a released checkpoint.

    Raises:
        ValueError: The file does not fit, or nothing is released of these heads.
    """
    return pick(READERS, release.settings.heads, what="heads of a released checkpoint")(release)
