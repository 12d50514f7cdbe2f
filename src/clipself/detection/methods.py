"""The two-stage detectors by name; none knows of another."""

from collections.abc import Mapping
from typing import Final

from clipself.backbones.dense_clip import DenseCLIP
from clipself.choices import pick
from clipself.detection.baron import BaronKD
from clipself.detection.fvit import FViT
from clipself.detection.fvlm import FVLM
from clipself.detection.settings import DetectorSettings
from clipself.detection.two_stage import TwoStage
from clipself.detection.vild import ViLD
from clipself.detection.vocabulary import Vocabulary

METHODS: Final[Mapping[str, type[TwoStage]]] = {"fvit": FViT, "fvlm": FVLM, "vild": ViLD, "baron": BaronKD}
"""`DetectorSettings.method` -> the detector; another one is a file and a line."""


def build_detector(clip: DenseCLIP, settings: DetectorSettings, vocabulary: Vocabulary, *, seed: int = 0) -> TwoStage:
    """A detector with fresh heads on the device of its backbone.

    Args:
        clip: The backbone; frozen from now on.
        settings: Architecture and constants.
        vocabulary: Names of training.
        seed: Seed of the heads' weights.

    Raises:
        ValueError: The settings do not fit the backbone.
    """
    import torch

    kind = pick(METHODS, settings.method, what="detection method")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = kind(clip, settings, vocabulary)
    return detector.to(clip.device)
