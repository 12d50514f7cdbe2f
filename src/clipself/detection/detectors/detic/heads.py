"""The detectors that the settings of Detic choose from."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.choices import pick
from clipself.detection.detectors.detic.c4 import C4Detector
from clipself.detection.detectors.detic.cascade_detector import CenterNetDetector
from clipself.detection.detectors.detic.on_clip import DeticOnClip
from clipself.detection.detectors.detic.settings import DeticSettings

HEADS: Final[Mapping[str, Callable[[DenseCLIP, DeticSettings, EmbeddedVocabulary], Any]]] = {
    "clip": DeticOnClip,
    "c4": C4Detector,
    "centernet": CenterNetDetector,
}
"""`DeticSettings.heads` -> the detector."""


def build_detic(clip: DenseCLIP, settings: DeticSettings, vocabulary: EmbeddedVocabulary) -> Any:
    """The detector that the settings name, with fresh heads.

    Args:
        clip: The backbone, or the text tower alone.
        settings: Architecture and constants.
        vocabulary: Names of training.
    """
    return pick(HEADS, settings.heads, what="heads")(clip, settings, vocabulary)
