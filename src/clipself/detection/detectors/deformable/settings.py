"""Settings of detectors on a deformable DETR; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from typing import Any, Literal

from clipself.detection.detectors.settings import MethodSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class DeformableSettings(MethodSettings):
    """A deformable DETR on a trunk of its own; the defaults are OV-DETR's (arXiv:2203.11876, released code)."""

    trunk: Literal["clip", "resnet50", "swin_b"] = "resnet50"
    """What the maps come from: the frozen CLIP, or a ResNet-50 or Swin-B that learns."""
    trunk_weights: str | None = None
    """Weights that a training of the trunk starts from: torchvision's resnet50.pth, a released Swin-B, or "random";
    none for the CLIP."""
    taps: tuple[int, ...] = ()
    """0-based blocks of a CLIP that is a transformer, one for each of the strides 8, 16 and 32; spread if empty."""
    pixels: Literal["imagenet", "clip"] = "imagenet"
    """Normalisation of the pixels."""
    image_size: int | None = None
    """Side of a square canvas, with the jitter of the run's `scales`; pictures keep their shape if not given."""
    short_side: int = 800
    """Short side at test, where pictures keep their shape."""
    longest_side: int = 1333
    """Limit of the long side."""
    train_sides: tuple[int, ...] = tuple(range(480, 801, 32))
    """Short sides of training."""
    crop: float = 0.5
    """Probability that a part is cut out first, in training."""
    channels: int = 256
    """Width inside; a multiple of 32."""
    heads: int = 8
    """Attention heads."""
    encoder_layers: int = 6
    """Layers over the levels."""
    decoder_layers: int = 6
    """Layers over the queries."""
    hidden: int = 1024
    """Width inside the feed-forward."""
    levels: int = 4
    """Maps that are looked at: strides 8, 16, 32, and halves of the last."""
    points: int = 4
    """Places that a head looks at on each map."""
    queries: int = 300
    """Of a picture, and of each class that it is asked for."""
    dropout: float = 0.1
    """In training."""
    two_stage: bool = True
    """Whether queries start from the encoder's proposals, or are learned."""
    refine: bool = True
    """Whether each layer moves the boxes of the one before it."""
    cost_classes: float = 3.0
    """Of the class in matching."""
    cost_box: float = 5.0
    """Of the L1 distance in matching."""
    cost_overlap: float = 2.0
    """Of the generalised IoU in matching."""
    weight_classes: float = 3.0
    """Of the class in the loss."""
    weight_box: float = 5.0
    """Of the L1 distance in the loss."""
    weight_overlap: float = 2.0
    """Of the generalised IoU in the loss."""
    focal_alpha: float = 0.25
    """Weight of positives in the focal loss."""
    focal_gamma: float = 2.0
    """Exponent that hushes easy ones in the focal loss."""
    score_threshold: float = 0.0
    """Least score of a detection."""
    max_detections: int = 300
    """Detections of an image, over all classes, without suppression."""

    def sizes(self) -> dict[str, Any]:
        """Arguments of `DeformableDetr`."""
        return {
            "channels": self.channels, "heads": self.heads, "encoder_layers": self.encoder_layers,
            "decoder_layers": self.decoder_layers, "hidden": self.hidden, "levels": self.levels,
            "encoder_points": self.points, "decoder_points": self.points, "queries": self.queries,
            "dropout": self.dropout, "two_stage": self.two_stage, "refine": self.refine,
        }  # fmt: skip

    def check(self) -> None:
        """Refuses what no such detector can have.

        Raises:
            ValueError: A setting is outside its range, or two exclude each other.
        """
        self.check_sizes("image_size", "short_side", "longest_side", "train_sides", "channels", "hidden")
        self.check_counts("heads", "encoder_layers", "decoder_layers", "levels", "points", "queries", "max_detections")
        self.check_not_negative(
            "taps", "cost_classes", "cost_box", "cost_overlap", "weight_classes", "weight_box", "weight_overlap",
            "focal_gamma",
        )  # fmt: skip
        self.check_shares("crop", "dropout", "focal_alpha", "score_threshold")
        if self.two_stage and not self.refine:
            raise ValueError("two_stage needs refine: the proposals' heads are one more set of the layers' own")
        if self.channels % 32 or self.channels % self.heads:
            raise ValueError(f"channels={self.channels} must be a multiple of 32 and of heads={self.heads}")
