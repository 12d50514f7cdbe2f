"""Settings that all two-stage detectors share; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from typing import Literal

from clipself.detection.detectors.settings import MethodSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStageSettings(MethodSettings):
    """Architecture, training targets and scoring of one two-stage detector.

    The defaults are F-ViT's on OV-COCO with EVA-02 CLIP B/16 (CLIPSelf, released configurations).
    """

    image_size: int = 640
    """Side of the square canvas in pixels; a multiple of the patch."""
    pixels: Literal["imagenet", "clip"] = "imagenet"
    """Normalisation of the pixels. The published detectors use ImageNet's although the backbone is a CLIP."""
    readout: str = "value"
    """How the backbone's last block becomes the last tap and the dense map."""
    prompt: str | None = None
    """File of a region prompt for a CLIP ResNet (`clipself detect prompt`), by which its second opinion is pooled."""
    taps: tuple[int, int, int, int] = (3, 5, 7, 11)
    """0-based blocks whose output feeds the pyramid, finest level first."""
    channels: int = 256
    """Of the feature pyramid and the heads."""
    norm: Literal["batch", "group", "none"] = "batch"
    """Norm of pyramid and heads; batch norm spans all processes. Group norm suits batches of a few images."""
    rpn_convs: int = 2
    """Convolutions of the region proposal network."""
    rpn_norm: bool = False
    """Whether they have a norm (OV-LVIS does)."""
    box_convs: int = 4
    """Convolutions of the box head."""
    box_layers: int = 2
    """Shared fully connected layers of the box head."""
    box_width: int | None = None
    """Width of those layers; the joint dimension if not given."""
    mask_convs: int = 0
    """Convolutions of the mask head; 0 for no masks (OV-LVIS has 4)."""
    anchor_scale: float = 8.0
    """Root of an anchor's area, in strides."""
    rpn_samples: int = 256
    """Anchors of an image that a step learns from, at most half of them matched."""
    proposals_before: int = 2000
    """Proposals of a level ahead of the suppression."""
    proposals_after: int = 1000
    """Proposals of an image after it."""
    proposal_nms: float = 0.7
    """Overlap from which the lesser proposal goes."""
    roi_samples: int = 512
    """Proposals of an image that a step learns from, at most a quarter of them matched."""
    rescue_regions: bool = False
    """Whether a box without a matched proposal takes its nearest one, from an overlap of 0.5 on (OV-LVIS)."""
    temperature: float = 50.0
    """Start of the learned factor of the cosine; fixed if `learn_temperature` is off."""
    learn_temperature: bool = True
    """Whether it is learned."""
    background: Literal["text", "learned"] = "text"
    """Embedding of the background: of the word "background", or a learned vector that starts there."""
    background_weight: float = 0.6
    """Weight of background regions in the class loss (OV-LVIS: 0.9)."""
    federated_classes: int = 0
    """Classes that an image's regions are told apart from: its own and others drawn by the root of their number of
    images, as Detic does on LVIS with 50; 0 for all, as F-ViT does."""
    fusion: Literal["fvit", "fvlm", "single", "none"] = "fvit"
    """How the detector's scores and the frozen CLIP's become one."""
    clip_temperature: float = 75.0
    """Factor of the frozen CLIP's cosine."""
    alpha: float = 0.1
    """CLIP's exponent for classes that training saw."""
    beta: float = 0.8
    """CLIP's exponent for all others."""
    score_threshold: float = 0.01
    """Least score of a detection."""
    nms: float = 0.4
    """Overlap from which the lesser detection of the same class goes."""
    max_detections: int = 100
    """Detections of an image."""
    max_candidates: int = 10_000
    """Best (region, class) pairs of an image that go into the suppression; more cost time and change nothing."""

    @property
    def wants_masks(self) -> bool:
        """A mask head learns from masks."""
        return self.mask_convs > 0

    def check(self) -> None:
        """Refuses what no detector can have.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_sizes("image_size", "channels", "box_width")
        self.check_counts(
            "rpn_samples", "roi_samples", "proposals_before", "proposals_after", "max_detections", "max_candidates"
        )
        self.check_not_negative(
            "taps", "rpn_convs", "box_convs", "box_layers", "mask_convs", "federated_classes", "background_weight"
        )
        self.check_positive("anchor_scale", "temperature", "clip_temperature")
        self.check_shares("alpha", "beta", "proposal_nms", "nms", "score_threshold")
