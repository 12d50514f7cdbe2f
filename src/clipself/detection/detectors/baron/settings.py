"""Settings of BARON-KD; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from typing import Literal

from clipself.detection.detectors.two_stage.settings import TwoStageSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class BaronSettings(TwoStageSettings):
    """BARON-KD (arXiv:2302.13996): a fixed temperature, a learned background, the detector decides alone."""

    method: str = field(default="baron", init=False)
    fusion: Literal["fvit", "fvlm", "single", "none"] = "none"
    learn_temperature: bool = False
    background: Literal["text", "learned"] = "learned"
    background_weight: float = 0.7
    extra_weight: float = 1.0
    """Weight of the bags of regions."""
    crops_by: str | None = None
    """CLIP whose view of crops teaches, such as the one that the backbone was refined from; the backbone itself if not
    given."""
    distill_regions: int = 3
    """Bags of an image."""
    queue: int = 1024
    """Earlier bags, and earlier single regions, that serve as negatives too; 0 for none."""
    words: int = 6
    """Pseudo words of a region."""

    @property
    def whole_batches(self) -> bool:
        """Bags of regions are contrasted over the images of a micro-batch."""
        return True

    def check(self) -> None:
        """Refuses what no such detector can have.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_counts("distill_regions", "words")
        self.check_not_negative("extra_weight", "queue")
