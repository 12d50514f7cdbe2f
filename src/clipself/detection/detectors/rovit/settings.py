"""Settings of RO-ViT's detector; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from typing import Literal

from clipself.detection.detectors.settings import MethodSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class RoVitSettings(MethodSettings):
    """RO-ViT (arXiv:2305.07011), CFM-ViT (arXiv:2309.00775) with `twin`, DITO (arXiv:2310.00161) with `shift`.

    The defaults are DITO's released configuration, which is the detector of all three.
    """

    method: str = field(default="rovit", init=False)
    image_size: int = 1024
    """Side of the square canvas in pixels; a multiple of the patch times the windows of a side."""
    vit: Literal["clip", "plain"] = "clip"
    """What the detector stands on: the CLIP's own transformer, or a plain one as RO-ViT's whose weights it brings."""
    trunk_weights: str | None = None
    """File of weights that a plain one starts from, by the published names; see `docs/systems/rovit.md`."""
    width: int = 1024
    """Channels of a plain one; what follows holds for it too."""
    layers: int = 24
    """Its blocks."""
    heads: int = 16
    """Of their attention."""
    patch: int = 16
    """Side of a patch, in pixels."""
    table: int = 14
    """Side of its position table, in patches."""
    padding: Literal["black", "mean"] = "black"
    """Colour of the canvas beside the picture for a plain one: black as RO-ViT's demo, CLIP's mean as DITO."""
    shift: int = 0
    """Patches that its second pass is rolled by (DITO: 8); no second pass at 0."""
    windows: int = 4
    """Windows along a side that most blocks look within; 1 for blocks that look everywhere."""
    global_blocks: tuple[int, ...] | None = None
    """0-based blocks that look everywhere; the last of each quarter if not given."""
    train_trunk: bool = True
    """Whether the transformer learns; F-VLM's way otherwise."""
    twin: bool = False
    """Whether a frozen twin, windowed but for its last block, is the second opinion (CFM-ViT, DITO), not the
    transformer that learns."""
    trunk_rate: float = 0.6
    """Share of the learning rate for the transformer."""
    readout: str = "value"
    """How the CLIP's last block becomes the dense map of the second opinion."""
    channels: int = 256
    """Of the pyramid and the heads."""
    rpn_convs: int = 2
    """Convolutions of the proposal head."""
    box_convs: int = 4
    """Convolutions of the box head."""
    box_layers: int = 1
    """Fully connected layers of the box head."""
    box_width: int = 1024
    """Width of those layers."""
    mask_convs: int = 0
    """Convolutions of the mask head; 0 for no masks."""
    anchor_scale: float = 8.0
    """Side of the one anchor of a cell, in strides."""
    rpn_samples: int = 256
    """Anchors of an image that each loss of the proposals learns from, all but one of them matched."""
    overlap_weight: float = 8.0
    """Weight of the overlap of proposals."""
    proposals_before: int = 2000
    """Proposals of a level ahead of the suppression."""
    proposals_after: int = 1000
    """Proposals of an image after it."""
    proposal_nms: float = 0.7
    """Overlap from which the lesser proposal goes while training."""
    proposal_test_nms: float = 1.0
    """And at prediction: none does at 1."""
    roi_samples: int = 512
    """Proposals of an image that a step learns from, at most a quarter of them matched."""
    temperature: float = 100.0
    """Factor of the cosine, divided by a scale that is learned."""
    background_weight: float = 0.9
    """Weight of background regions in the class loss."""
    fusion: Literal["fvit", "fvlm", "single", "none"] = "fvlm"
    """How the detector's scores and the second opinion become one."""
    clip_temperature: float = 100.0
    """Factor of the second opinion's cosine."""
    clip_bins: int = 14
    """Side of the crop whose mean is a region's embedding."""
    shrink: float = 1.0
    """Sides of a region relative to its proposal in the second opinion (DITO: 0.7)."""
    alpha: float = 0.35
    """Its exponent for classes that training saw."""
    beta: float = 0.65
    """Its exponent for all others."""
    objectness_power: float = 3.0
    """Power of a proposal's centreness that its scores are multiplied by."""
    score_threshold: float = 0.0
    """Least score of a detection."""
    nms: float = 0.5
    """Overlap from which the lesser detection of the same class goes."""
    max_detections: int = 300
    """Detections of an image."""
    max_candidates: int = 10_000
    """Best (region, class) pairs of an image that go into the suppression."""

    @property
    def wants_masks(self) -> bool:
        """A mask head learns from masks."""
        return self.mask_convs > 0

    @property
    def clip_part(self) -> Literal["image", "text", "all"]:
        """Of a CLIP beside a plain transformer the texts alone are used."""
        return "text" if self.vit == "plain" else "image"

    def windows_of(self, depth: int) -> tuple[int, ...]:
        """Windows of each block; 0 for one that looks everywhere."""
        quarters = tuple(depth * (place + 1) // 4 - 1 for place in range(4))
        everywhere = quarters if self.global_blocks is None else self.global_blocks
        return tuple(0 if block in everywhere else self.windows for block in range(depth))

    @property
    def whole_batches(self) -> bool:
        """Offsets are averaged over the matches of a micro-batch."""
        return True

    def check(self) -> None:
        """Refuses what no such detector can have.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_sizes("image_size", "width", "layers", "heads", "patch", "table", "channels", "box_width")
        self.check_counts(
            "windows", "rpn_samples", "proposals_before", "proposals_after", "roi_samples", "clip_bins",
            "max_detections", "max_candidates",
        )  # fmt: skip
        self.check_not_negative(
            "shift", "global_blocks", "trunk_rate", "rpn_convs", "box_convs", "box_layers", "mask_convs",
            "overlap_weight", "background_weight", "objectness_power",
        )  # fmt: skip
        self.check_positive("anchor_scale", "temperature", "clip_temperature", "shrink")
        self.check_shares("alpha", "beta", "proposal_nms", "proposal_test_nms", "nms", "score_threshold")
        if self.shift and self.vit == "clip":
            raise ValueError("shift belongs to vit='plain': a CLIP's class token and rotary positions cannot be rolled")
        if self.trunk_weights is not None and self.vit == "clip":
            raise ValueError("trunk_weights belong to vit='plain'; vit='clip' is the CLIP that model= names")
