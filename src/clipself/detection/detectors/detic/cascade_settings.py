"""Constants of the proposals and the cascade of Detic's OV-LVIS detector; free of heavy imports."""

from dataclasses import dataclass
from typing import Literal

from clipself.engine.config import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class CenterNetSettings(Settings):
    """CenterNet as a class-free proposal network; the defaults are the released ones of CenterNet2 and Detic."""

    convs: int = 4
    """Convolutions that heat and distances share."""
    ranges: tuple[tuple[float, float], ...] = ((0, 80), (64, 160), (128, 320), (256, 640), (512, 10_000_000))
    """Half diagonals of boxes, in pixels, that each level answers for, finest first."""
    min_overlap: float = 0.8
    """Overlap that a box moved by the radius of its heat still has with the true one."""
    min_radius: float = 4.0
    """Least radius of a heat, in pixels."""
    focal_alpha: float = 0.25
    """Weight of centres in the focal loss, 1 minus it that of the rest; below 0 for none."""
    focal_gamma: float = 2.0
    """Exponent of what is missing to the right answer."""
    focal_beta: float = 4.0
    """Exponent by which places near a centre are spared."""
    ignore_above: float = 0.85
    """Probability from which a place without a centre is not punished; 0 for never."""
    centre_weight: float = 0.5
    """Weight of the centres' part."""
    rest_weight: float = 0.5
    """Weight of the rest of the heat map."""
    distance_weight: float = 1.0
    """Weight of the boxes."""
    score_threshold: float = 1e-4
    """Least heat of a proposal."""
    nms: float = 0.9
    """Overlap from which the lesser proposal goes, over all levels."""
    before: int = 1000
    """Proposals of a level ahead of the suppression."""
    after: int = 256
    """Proposals of an image after it."""
    before_in_training: int = 4000
    """Of a level while training."""
    after_in_training: int = 2000
    """Of an image while training."""

    def limits(self, *, training: bool) -> tuple[int, int]:
        """Proposals ahead of the suppression, of a level, and after it, of an image."""
        if training:
            return self.before_in_training, self.after_in_training
        return self.before, self.after

    def check(self) -> None:
        """Refuses what no proposal network can have.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_counts("convs", "before", "after", "before_in_training", "after_in_training")
        self.check_not_negative("min_radius", "focal_gamma", "focal_beta", "ignore_above")
        self.check_not_negative("centre_weight", "rest_weight", "distance_weight")
        self.check_shares("min_overlap", "score_threshold", "nms", "focal_alpha")


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeSettings(Settings):
    """Stages of box heads, each on the boxes of the one before, and the trunk under them.

    The defaults are those of Detic on OV-LVIS. What all two-stage detectors have lies in the settings around these.
    """

    trunk: Literal["resnet50", "swin_b", "clip"] = "resnet50"
    """What reads the pictures: a network of its own that learns whole, or the frozen CLIP."""
    trunk_weights: str | None = None
    """File that it starts from; "random" if that is meant, none for "clip"."""
    short_side: int = 800
    """Short side of a whole picture, in pixels; views of training are cut to squares of `image_size`."""
    longest: int = 1333
    """Limit of its long side, in pixels."""
    ious: tuple[float, ...] = (0.6, 0.7, 0.8)
    """Overlap from which a proposal is a match, of each stage."""
    box_weights: tuple[tuple[float, float, float, float], ...] = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))
    """Factors of a stage's offsets: of the centre and of the logarithms of the sides."""
    width: int = 1024
    """Of the two layers of a stage."""
    bins: int = 7
    """Side of the pooled regions."""
    finest: float = 112.0
    """Half the side, in pixels, from which a box is read from the second level."""
    mask_width: int = 256
    """Channels of the mask head."""
    mask_bins: int = 14
    """Side of its pooled regions; a mask has twice as many cells a side."""
    multiply_objectness: bool = True
    """Whether a score is the root of the stages' mean times the proposal's own score."""

    @property
    def stages(self) -> int:
        """How many there are."""
        return len(self.ious)

    def stds(self, stage: int) -> tuple[float, float, float, float]:
        """Scale of a stage's offsets, as `ops.deltas` wants it."""
        x, y, width, height = self.box_weights[stage]
        return 1 / x, 1 / y, 1 / width, 1 / height

    def check(self) -> None:
        """Refuses what no cascade can have.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_sizes("width", "mask_width", "short_side", "longest")
        self.check_counts("bins", "mask_bins")
        self.check_positive("finest", "ious")
        self.check_shares("ious")
        if not self.ious or len(self.box_weights) != len(self.ious):
            raise ValueError(f"{len(self.ious)} stages need as many box_weights, got {len(self.box_weights)}")
        if not all(weight > 0 for weights in self.box_weights for weight in weights):
            raise ValueError(f"box_weights={self.box_weights} must be above 0")
