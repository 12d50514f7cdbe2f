"""What the parts of panoptic segmentation can be told; each part owns its settings. Free of heavy imports."""

from dataclasses import dataclass
from typing import Literal

from clipself.engine.config import Settings

Scores = Literal["clip", "generator", "both", "both-odise"]
"""Rows of `mixture.MIXTURES`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnMasksSettings(Settings):
    """Our own mask generator, FC-CLIP's decoders on a frozen CLIP; saved beside its weights."""

    features: str = "clip"
    """What the decoders stand on, frozen: "clip", its taps; or "diffusion:NAME", a text-to-image model in diffusers'
    layout, hub name or folder."""
    taps: tuple[int, ...] | None = None
    """Blocks of the CLIP that are read, ascending; the middle one and the last but one if not given."""
    image_size: int = 320
    """Longest side of the input, and side of the square training input, in pixels."""
    channels: int = 96
    """Width of decoders and mask features; a multiple of 32."""
    pixel_layers: int = 2
    """Deformable layers of the pixel decoder."""
    pixel_hidden: int = 256
    """Width inside their feed-forward."""
    layers: int = 3
    """Layers of the masked decoder."""
    hidden: int = 256
    """Width inside their feed-forward."""
    queries: int = 40
    """How many masks a picture has at most."""
    heads: int = 4
    """Attention heads of both decoders."""
    templates: str = "vild"
    """Sentences around the names that the class head compares with: vild, simple, detection, imagenet, or a file."""

    def check(self) -> None:
        """Refuses shapes that no decoder has.

        Raises:
            ValueError: A size is below 1, or the width does not divide.
        """
        self.check_not_negative("taps")
        self.check_sizes(
            "image_size", "channels", "pixel_layers", "pixel_hidden", "layers", "hidden", "queries", "heads"
        )
        if self.channels % 32 or self.channels % self.heads:
            raise ValueError(
                f"channels={self.channels} must be a multiple of 32, the groups of the norms, and of heads={self.heads}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskLossSettings(Settings):
    """What matching and loss weigh (Mask2Former)."""

    class_weight: float = 2.0
    """Weight of the class term."""
    mask_weight: float = 5.0
    """Weight of the mask's cross entropy."""
    dice_weight: float = 5.0
    """Weight of the mask's dice."""
    no_object: float = 0.1
    """Weight of "no object" in the class term."""
    num_points: int = 2048
    """Points at which a mask is compared; 12544 as published."""

    def check(self) -> None:
        """Refuses weights below 0.

        Raises:
            ValueError: One of them is, or there are no points.
        """
        self.check_counts("num_points")
        self.check_not_negative("class_weight", "mask_weight", "dice_weight", "no_object")


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeSettings(Settings):
    """How the CLIP judges masks."""

    by: Literal["masks", "crops", "tokens"] = "masks"
    """How it sees a mask: pooled from its dense map, cut out of the picture, or by ODISE's mask tokens."""
    image_size: int = 640
    """Longest side that it sees, in pixels; the aspect is kept."""
    readout: str | None = None
    """How its last block becomes a dense map; what the model was refined with, else "value", if not given."""
    templates: str = "vild"
    """Sentences around the names: vild, simple, detection, imagenet, or a text file."""

    def check(self) -> None:
        """Refuses sizes below 1.

        Raises:
            ValueError: The size is.
        """
        self.check_sizes("image_size")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules(Settings):
    """Thresholds from masks to maps, published by FC-CLIP and ODISE."""

    object_threshold: float = 0.0
    """Masks below this class probability stay out of the panoptic map."""
    overlap_threshold: float = 0.8
    """Least share of its own area that a mask must win there."""
    top: int = 100
    """Pairs of mask and class looked at for instances."""
    longest: int = 2048
    """Longest side at which masks compete in a prediction, in pixels; the maps of larger pictures are enlarged."""

    def check(self) -> None:
        """Refuses thresholds that are no shares.

        Raises:
            ValueError: One of them is outside [0, 1], or `top` or `longest` is below 1.
        """
        self.check_shares("object_threshold", "overlap_threshold")
        self.check_counts("top")
        self.check_sizes("longest")


def check_sources(checkpoint: object, masks: object) -> None:
    """Refuses masks from two places, or from nowhere.

    Raises:
        ValueError: Not exactly one of both is given.
    """
    if (checkpoint is None) == (masks is None):
        raise ValueError(
            f"checkpoint={checkpoint} and masks={masks}: masks come from one of them, a trained generator (checkpoint, "
            "such as a folder of `panoptic train`) or stored masks (masks, such as a JSON)"
        )
