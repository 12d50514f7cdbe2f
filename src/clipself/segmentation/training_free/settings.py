"""The protocol of segmentation without training."""

from dataclasses import dataclass

from clipself.backbones.readouts import find_readout


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingFreeSettings:
    """The protocol; the defaults are the published ones.

    Attributes:
        readout: How the last block becomes a dense map; one with windows of its own takes the place of those below.
        templates: Sentences around the names.
        shortest: Shortest side that pictures are brought to, in pixels; the aspect is kept.
        window: Side of a window.
        stride: Step from window to window.
        logit_scale: Cosines are multiplied by it ahead of the softmax.
        threshold: Pixels whose best probability is below become background; 0 where there is no background.
        background: Name of the background class, whose own score takes part too.
        classes_at_once: Scores in one pass; bounds memory.
        by_region: Whether a region takes the class of most of its pixels, where regions are given.
        bank_top: How many regions of a bank support a region, where there is one.
        bank_weight: Weight of their support beside the picture's own map.
    """

    readout: str = "value"
    templates: str = "imagenet"
    shortest: int = 336
    window: int = 224
    stride: int = 112
    logit_scale: float = 40.0
    threshold: float = 0.0
    background: str = "background"
    classes_at_once: int = 64
    by_region: bool = True
    bank_top: int = 8
    bank_weight: float = 1.0

    def __post_init__(self) -> None:
        find_readout(self.readout)
        if not 0.0 <= self.threshold < 1.0:
            raise ValueError(f"threshold={self.threshold} is not in [0, 1); it is a probability")
        if self.bank_top < 1 or not 0 <= self.bank_weight < float("inf"):
            raise ValueError(
                f"bank_top={self.bank_top}, bank_weight={self.bank_weight}: expected at least one region and a weight "
                "of 0 or more"
            )
