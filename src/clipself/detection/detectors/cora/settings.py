"""Settings of CORA; free of heavy imports so that `--help` is quick."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipself.detection.detectors.settings import MethodSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class CoraSettings(MethodSettings):
    """CORA (arXiv:2303.13076); the defaults are the released ones on OV-COCO.

    `first_stage` and `deformable_encoder` are in its code and in none of its releases; CORA+ may have used them.
    """

    method: str = field(default="cora", init=False)
    templates: str = "imagenet"
    text_length: int = 15
    """Tokens after which a sentence around a name is cut."""
    prompt: str | None = None
    """File of a region prompt for a CLIP ResNet (`clipself detect prompt`); the CLIP's own positions if not given."""
    readout: str = "value"
    """How a transformer's last block becomes the dense map that its regions are read from."""
    short_side: int = 800
    """Short side of a picture at test, in pixels."""
    longest_side: int = 1333
    """Limit of its long side, in pixels."""
    short_sides: tuple[int, ...] = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    """Short sides of training, one of them for each view."""
    crop: float = 0.5
    """Share of views that are cut out of a picture first, as DETR does."""
    width: int = 256
    """Channels of the localiser; the released heads hold 256."""
    hidden: int = 1024
    """Width of its feed-forward parts."""
    heads: int = 8
    """Heads of its attention."""
    encoder_layers: int = 3
    """Layers of the encoder."""
    decoder_layers: int = 6
    """Layers of the decoder."""
    dropout: float = 0.1
    """Of all its layers while training."""
    queries: int = 1000
    """Learned anchors of a picture."""
    bottleneck: int = 128
    """Hidden width between a name's embedding and a query."""
    first_stage: int = 0
    """Anchors from the encoder's own predictions instead of learned ones; 0 for none."""
    deformable_encoder: bool = False
    """Whether cells look at four places of the map each, instead of at all of it."""
    split_classes: float = 0.2
    """Chance of a step that looks at each half of the names by itself."""
    temperature: float = 100.0
    """Factor of the cosine with the names, for anchors and for boxes."""
    novel_factor: float = 8.0
    """Factor of the chance that an anchor looks for a name which training did not see."""
    objectness: float = 1.0
    """Exponent of the localiser's score."""
    score_threshold: float = 0.001
    """Least score of a detection."""
    nms: float = 0.5
    """Overlap from which the lesser detection of the same class goes."""
    max_detections: int = 100
    """Detections of a picture."""

    @property
    def spoken(self) -> Mapping[str, Any]:
        """Names as they are but for underscores, in sentences that are cut."""
        return {"templates": self.templates, "wording": "spaced", "longest": self.text_length}

    @property
    def whole_batches(self) -> bool:
        """All terms are averaged over the matches of a micro-batch."""
        return True

    def check(self) -> None:
        """Refuses what no detector can have.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_sizes("short_side", "longest_side", "short_sides", "width", "hidden", "bottleneck")
        self.check_counts("text_length", "heads", "encoder_layers", "decoder_layers", "queries", "max_detections")
        self.check_not_negative("first_stage", "objectness")
        self.check_positive("temperature", "novel_factor")
        self.check_shares("crop", "dropout", "split_classes", "score_threshold", "nms")
        if self.width % 8 or self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of 8 and of heads={self.heads}")
