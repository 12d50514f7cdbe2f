"""Constants of the proposals and the cascade of Detic's OV-LVIS detector; free of heavy imports."""

from dataclasses import dataclass

from clipself.engine.config import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class CenterNetSettings(Settings):
    """CenterNet as a class-free proposal network; the defaults are the released ones of CenterNet2 and Detic."""

    convs: int = 4
    """Convolutions that heat and distances share."""
    strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Pixels from place to place of each level."""
    ranges: tuple[tuple[float, float], ...] = ((0, 80), (64, 160), (128, 320), (256, 640), (512, 10_000_000))
    """Half diagonals of boxes, in pixels, that each level answers for."""
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
        self.check_counts("convs", "strides", "before", "after", "before_in_training", "after_in_training")
        self.check_not_negative("min_radius", "focal_gamma", "focal_beta", "ignore_above")
        self.check_not_negative("centre_weight", "rest_weight", "distance_weight")
        self.check_shares("min_overlap", "score_threshold", "nms")
        if len(self.ranges) != len(self.strides):
            raise ValueError(f"{len(self.strides)} strides need as many ranges, got {len(self.ranges)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeSettings(Settings):
    """Three stages of box heads, each on the boxes of the one before; the defaults are those of Detic on OV-LVIS."""

    ious: tuple[float, ...] = (0.6, 0.7, 0.8)
    """Overlap from which a proposal is a match, of each stage."""
    box_weights: tuple[tuple[float, float, float, float], ...] = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))
    """Factors of a stage's offsets: of the centre and of the logarithms of the sides."""
    width: int = 1024
    """Of the two layers of a stage."""
    bins: int = 7
    """Side of the pooled regions."""
    pooled_levels: int = 3
    """Levels that regions are read from, finest first."""
    finest: float = 112.0
    """Half the side, in pixels, from which a box is read from the second level."""
    mask_convs: int = 4
    """Convolutions of the mask head; 0 for no masks."""
    mask_width: int = 256
    """Their channels."""
    mask_bins: int = 14
    """Side of the mask head's pooled regions; a mask has twice as many cells a side."""
    temperature: float = 50.0
    """Factor of the cosine between a region and a class."""
    samples: int = 512
    """Proposals of an image that a step learns from, true boxes among them."""
    sampled_matches: float = 0.25
    """Largest share of matches among them."""
    multiply_objectness: bool = True
    """Whether a score is the root of the stages' mean times the proposal's own score."""
    one_class: bool = False
    """Whether a proposal keeps its best class alone, as in the released demo."""
    score_threshold: float = 0.02
    """Least score of a detection."""
    nms: float = 0.5
    """Overlap from which the lesser detection of the same class goes."""
    max_detections: int = 300
    """Detections of an image."""
    max_candidates: int = 10_000
    """Best (proposal, class) pairs of an image that go into the suppression."""

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
        self.check_sizes("width", "mask_width")
        self.check_counts("bins", "pooled_levels", "mask_bins", "samples", "max_detections", "max_candidates")
        self.check_not_negative("mask_convs")
        self.check_positive("temperature", "finest", "ious")
        self.check_shares("ious", "sampled_matches", "score_threshold", "nms")
        if len(self.box_weights) != len(self.ious):
            raise ValueError(f"{len(self.ious)} stages need as many box_weights, got {len(self.box_weights)}")
