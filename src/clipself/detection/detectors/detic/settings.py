"""Settings of Detic; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from typing import Literal

from clipself.detection.detectors.detic.cascade_settings import CascadeSettings, CenterNetSettings
from clipself.detection.detectors.two_stage.settings import TwoStageSettings
from clipself.engine.config import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class C4Settings(Settings):
    """The detector of Detic's OV-COCO models: Faster R-CNN on a ResNet's fourth map, the last stage for regions."""

    depth: Literal[50, 101] = 50
    """Of the ResNet."""
    stem_width: int = 64
    """Channels of its stem."""
    width: int = 256
    """Channels of its first stage; each further one has twice as many."""
    bottleneck: int = 64
    """Channels of the 3x3 convolutions of its first stage."""
    stride_first: bool = True
    """Whether the 1x1 convolution of a stage's first block halves the map, and not the 3x3."""
    frozen_stages: int = 1
    """First stages that do not learn, the stem with them; 0 freezes the stem alone."""
    blue_first: bool = True
    """Whether the ResNet sees blue first, as MSRA's models do; torchvision's see red first."""
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Mean of red, green and blue, in 0 to 255."""
    pixel_std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Their deviation: 1 for MSRA's models, 58.395 57.12 57.375 for torchvision's."""
    trunk_weights: str | None = None
    """File that the ResNet starts from, by the names of Detectron2 or of torchvision; "random" if that is meant."""
    anchor_sides: tuple[float, ...] = (32, 64, 128, 256, 512)
    """Roots of the anchors' areas, in pixels."""
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Their heights over their widths."""
    bins: int = 14
    """Side of the pooled regions."""
    short_side: int = 800
    """Short side of a picture, in pixels."""
    longest: int = 1333
    """Limit of its long side, in pixels."""
    proposals_before: int = 12_000
    """Proposals of an image ahead of the suppression while training; at test it is the detector's own setting."""
    proposals_after: int = 2000
    """And after it."""

    def check(self) -> None:
        """Refuses what no such detector can have.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_sizes("stem_width", "width", "bottleneck", "short_side", "longest")
        self.check_counts("bins", "proposals_before", "proposals_after")
        self.check_positive("anchor_sides", "anchor_ratios", "pixel_std")
        self.check_finite("pixel_mean")
        if not 0 <= self.frozen_stages <= 3:
            raise ValueError(f"frozen_stages={self.frozen_stages} is outside [0, 3], the stages ahead of the regions'")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeticSettings(TwoStageSettings):
    """Detic (arXiv:2201.02605): cosines with texts, each class by itself, no say of CLIP's image tower at test.

    Its heads stand on the frozen CLIP's pyramid as those of the other two-stage detectors do, or are the published
    ones on a backbone of their own, whose settings lie in tables beside.
    """

    method: str = field(default="detic", init=False)
    heads: Literal["clip", "c4", "centernet"] = "clip"
    """Which detector: on the CLIP's pyramid, or the published one of OV-COCO ("c4") or of OV-LVIS ("centernet")."""
    fusion: Literal["fvit", "fvlm", "single", "none"] = "none"
    learn_temperature: bool = False
    background_weight: float = 1.0
    class_loss: Literal["sigmoid", "softmax"] = "sigmoid"
    """Whether classes are told apart each by itself, or compete with each other and the background."""
    bias: float = 0.0
    """Start of a learned number that is added to every logit; none at 0."""
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    """Factors of the offsets of boxes: of the centre and of the logarithms of the sides."""
    region_match: float = 0.5
    """Overlap that makes a proposal a match."""
    one_class: bool = False
    """Whether a proposal keeps its best class alone, as in the released demo."""
    c4: C4Settings = field(default_factory=C4Settings)
    """Of the heads "c4"."""
    centernet: CenterNetSettings = field(default_factory=CenterNetSettings)
    """Proposals of the heads "centernet"."""
    cascade: CascadeSettings = field(default_factory=CascadeSettings)
    """Trunk and stages of the heads "centernet"."""

    @property
    def clip_part(self) -> Literal["image", "text", "all"]:
        """The published detectors have backbones of their own: of the CLIP they use the text tower alone."""
        on_clip = self.heads == "clip" or (self.heads == "centernet" and self.cascade.trunk == "clip")
        return "image" if on_clip else "text"

    def check(self) -> None:
        """Refuses what no such detector can have.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_shares("region_match")
        self.check_finite("bias")
        self.check_positive("box_weights")
