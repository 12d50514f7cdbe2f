"""Settings of ViLD; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from typing import Literal

from clipself.detection.detectors.two_stage.settings import TwoStageSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class ViLDSettings(TwoStageSettings):
    """ViLD (arXiv:2104.13921): a fixed temperature, a learned background, the detector decides alone."""

    method: str = field(default="vild", init=False)
    fusion: Literal["fvit", "fvlm", "single", "none"] = "none"
    temperature: float = 100.0
    learn_temperature: bool = False
    background: Literal["text", "learned"] = "learned"
    background_weight: float = 1.0
    extra_weight: float = 0.5
    """Weight of the distillation of embeddings."""
    crops_by: str | None = None
    """CLIP whose view of crops teaches, such as the one that the backbone was refined from; the backbone itself if not
    given."""
    distill_regions: int = 8
    """Proposals of an image whose crops are embedded."""

    ensemble: bool = False
    """Whether a head of its own learns what crops are, and both heads' scores are joined (`fusion` fvit, alpha 1/3,
    beta 2/3) instead of one embedding that learns texts and crops."""

    def check(self) -> None:
        """Refuses what no such detector can have.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_counts("distill_regions")
        self.check_not_negative("extra_weight")
        if self.ensemble and self.fusion == "none":
            raise ValueError(
                "ensemble joins two heads by fusion, which is 'none'; take 'fvit' with alpha 1/3, beta 2/3"
            )
