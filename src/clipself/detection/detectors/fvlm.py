"""F-VLM: the frozen CLIP decides on novel classes, its background does not count."""

from dataclasses import dataclass, field
from typing import Literal

from clipself.detection.detectors.two_stage.settings import TwoStageSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class FvlmSettings(TwoStageSettings):
    """Source: F-VLM (arXiv:2209.15639): on a ResNet's stages and attention pool, or on a transformer's dense map.

    The shared detector, trained as F-ViT is. What differs is the fusion: exponents .35 and .65, the background is the
    detector's alone, rows sum to 1.
    """

    method: str = field(default="fvlm", init=False)
    fusion: Literal["fvit", "fvlm", "single", "none"] = "fvlm"
    alpha: float = 0.35
    beta: float = 0.65
    temperature: float = 100.0
    clip_temperature: float = 100.0
    background_weight: float = 0.9
