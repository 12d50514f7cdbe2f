"""Settings of PromptOVD in our reading; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field

from clipself.detection.detectors.deformable.settings import DeformableSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptOvdSettings(DeformableSettings):
    """Our reading of PromptOVD (arXiv:2303.14386), of which no code is published: constants are Deformable DETR's."""

    method: str = field(default="promptovd", init=False)
    cost_classes: float = 2.0
    weight_classes: float = 2.0
    prompts: int = 100
    """Classes that training shows at once: those that are there, and random base classes."""
    temperature: float = 10.0
    """Start of the learned factor of the cosine between a query and a name."""
    rois: int = 100
    """Likeliest boxes that the CLIP judges; all others are dropped."""
    clip_temperature: float = 100.0
    """Factor of the CLIP's cosine."""
    clip_share: float = 0.5
    """Exponent of the CLIP's score; the decoder's has the rest, and 0 leaves the CLIP out."""

    def check(self) -> None:
        """Refuses what no such detector can have.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_counts("prompts", "rois")
        self.check_positive("temperature", "clip_temperature")
        self.check_shares("clip_share")
