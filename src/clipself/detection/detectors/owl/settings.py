"""Settings of OWL-ViT; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from typing import Literal

from clipself.detection.detectors.settings import MethodSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class OwlSettings(MethodSettings):
    """OWL-ViT (arXiv:2205.06230): every token of any CLIP of ours is a box and a class embedding.

    The defaults are those of the released configuration for B/16 on LVIS.
    """

    method: str = field(default="owl", init=False)
    templates: str = "imagenet-best"
    """Sentences around the names at test, averaged: the seven of the release."""
    image_size: int = 768
    """Side of the square canvas, in pixels."""
    features: Literal["tokens", "dense"] = "tokens"
    """What the heads read: the trunk's last tokens, as published, or the dense map, which self-distillation refines."""
    readout: str = "value"
    """How the last block becomes the dense map, for features='dense'."""
    merge: Literal["mul-ln", "sum-ln", "drop-ln", "mul", "sum", "drop"] = "mul-ln"
    """How the class token is brought into every token; 'drop-ln' for trunks without one, and for the dense map."""
    norm_eps: float = 1e-6
    """Of the norm after it; transformers computes with 1e-5."""
    normalize: bool = True
    """Whether class embeddings and queries are compared by their cosine."""
    gelu: Literal["tanh", "exact"] = "tanh"
    """Activation of the box head; transformers computes the exact one."""
    box_bias: Literal["both", "location", "size", "none"] = "both"
    """Which part of its cell a token's box starts from."""
    objectness: bool = False
    """OWLv2's objectness head (arXiv:2306.09683): gives class-free proposals; learns on detached tokens."""
    towers: Literal["none", "image", "both"] = "both"
    """Which towers learn along with the heads."""
    image_lr_scale: float = 1.0
    """Rate of the image tower as a share of the heads'."""
    text_lr_scale: float = 0.04
    """Rate of the text tower, likewise: 2e-6 beside 5e-5."""
    layer_drop: float = 0.2
    """Chance that a picture goes past the last block of the image tower in training; it rises from 0 at the first."""
    text_tokens: int = 16
    """Tokens of a query."""
    queries: int = 100
    """Queries of a picture in training, the empty one included."""
    negatives: int = 50
    """Negatives wanted among them: what the data says is absent, then labels by frequency."""
    merge_iou: float = 0.9
    """Boxes that overlap so much become one with several labels."""
    leave_out_rare: bool = False
    """Whether labels that name a rare LVIS class are left out, as for training on other data than LVIS."""
    crop_area: tuple[float, float] = (0.3, 1.0)
    """Range of the share of a picture that is cut out in training; 1 1 takes it whole."""
    crop_aspect: tuple[float, float] = (0.75, 1.33)
    """Range of width divided by height of the cut."""
    least_left: float = 0.6
    """Share of a box that must be left by the cut."""
    class_weight: float = 1.0
    """Of the focal term, in matching and loss."""
    box_weight: float = 1.0
    """Of the L1 term."""
    overlap_weight: float = 1.0
    """Of the GIoU term."""
    focal_alpha: float = 0.3
    """Weight of positives in the focal term."""
    focal_gamma: float = 2.0
    """Exponent of the focal term."""
    score_threshold: float = 0.0
    """Least score of a detection."""
    max_detections: int = 300
    """Of an image."""
    nms: float | None = None
    """Overlap from which on the lesser box of a class is suppressed; the method needs none."""

    @property
    def clip_part(self) -> Literal["image", "text", "all"]:
        """All of the CLIP: where the text tower learns, what is kept starts from its weights."""
        return "all" if self.towers == "both" else "image"

    def check(self) -> None:
        """Refuses what no such detector can mean.

        Raises:
            ValueError: A setting is outside its range, or two exclude each other.
        """
        self.check_sizes("image_size")
        self.check_counts("text_tokens", "queries", "max_detections")
        self.check_not_negative("negatives", "class_weight", "box_weight", "overlap_weight", "focal_gamma")
        self.check_shares("layer_drop", "merge_iou", "crop_area", "least_left", "focal_alpha", "score_threshold", "nms")
        self.check_positive("image_lr_scale", "text_lr_scale", "norm_eps", "crop_area", "crop_aspect")
        if self.queries < 2 or self.text_tokens < 3:
            raise ValueError(
                f"queries={self.queries} and text_tokens={self.text_tokens}: at least 2 and 3 are needed, the first "
                "query is empty, and a text has a begin and an end"
            )
        if self.features == "dense" and self.layer_drop:
            raise ValueError("layer_drop belongs to features='tokens'; set it to 0 for the dense map")
        if self.crop_area[0] > self.crop_area[1] or self.crop_aspect[0] > self.crop_aspect[1]:
            raise ValueError(f"crop_area={self.crop_area} and crop_aspect={self.crop_aspect} must ascend")
