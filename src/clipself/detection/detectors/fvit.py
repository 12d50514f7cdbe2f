"""F-ViT: the paper's detector."""

from dataclasses import dataclass, field

from clipself.detection.detectors.two_stage.settings import TwoStageSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class FViTSettings(TwoStageSettings):
    """Source: CLIPSelf (arXiv:2310.01403), Sec. 4.2.

    The shared detector as it is: learned cosine classes for what training saw, the frozen CLIP's dense map for what it
    did not, fused as p^(1-w) q^w.
    """

    method: str = field(default="fvit", init=False)
