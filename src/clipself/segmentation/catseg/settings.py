"""How a CAT-Seg is built and trained; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clipself.engine.config import Settings
from clipself.segmentation.settings import SegmenterSettings

Synonyms = Literal["first", "mean"]
TrainClip = Literal["queries-values", "visual-attention", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AggregatorSettings(Settings):
    """Sizes of an aggregator; the defaults are those of the second release for ViT-B/16."""

    text_channels: int = 512
    """Width of the joint space."""
    guidance_channels: int = 512
    """Width of the guiding map at the grid."""
    decoder_guidance_channels: tuple[int, int] = (256, 128)
    """Widths of the guiding maps at twice and four times the grid."""
    prompts: int = 1
    """Sentences of a class; each gives a cost map of its own."""
    hidden: int = 128
    """Width of a cost embedding."""
    projected: int = 128
    """Width of the projected texts."""
    guidance_projected: int | None = None
    """Width of the projected map that guides; that of the texts if not given."""
    class_attention: Literal["linear", "full"] = "linear"
    """How classes look at each other: with the kernel of linear transformers, as released, or with a softmax."""
    decoder_channels: tuple[int, int] = (64, 32)
    """Widths of the two upsampling steps."""
    decoder_projected: tuple[int, int] = (32, 16)
    """Widths of their guidance."""
    layers: int = 2
    """Spatial and class steps."""
    heads: int = 4
    """Attention heads of both."""
    window: int = 12
    """Side of the windows, in patches."""
    pad_classes: int = 256
    """Fewer classes than this are filled up with a learnt one; 0 for none, as in the first release."""

    def check(self) -> None:
        """Refuses sizes that make no aggregator.

        Raises:
            ValueError: A size is below 1, or the width is no multiple of the heads.
        """
        self.check_sizes(
            "text_channels", "guidance_channels", "decoder_guidance_channels", "prompts", "hidden", "projected",
            "guidance_projected", "decoder_channels", "decoder_projected", "layers", "heads", "window",
        )  # fmt: skip
        self.check_not_negative("pad_classes")
        if self.hidden % self.heads:
            raise ValueError(f"hidden={self.hidden} is no multiple of the {self.heads} heads")


@dataclass(frozen=True, kw_only=True, slots=True)
class CatSegSettings(SegmenterSettings):
    """CAT-Seg (arXiv:2303.11797): the cosines of patches and names, refined by an aggregator."""

    method: str = field(default="catseg", init=False)
    release: Literal[1, 2] = 2
    """2 is guided by CLIP, 1 (which CLIPSelf used) by a network beside it; what is not given follows from it."""
    image_size: int | None = None
    """Side of the square that CLIP sees and images are squashed to, in pixels; 24 patches if not given."""
    taps: tuple[int, int] | None = None
    """Blocks that guide the decoder at twice and four times the grid; after a third and two thirds if not given."""
    readout: str | None = None
    """How CLIP's last block becomes the map whose cosines are refined: "catseg" (class token's residual) in release 2,
    "value" in release 1. A backbone refined by CLIPSelf wants "value", which it was refined with."""
    templates: str | None = None
    """Sentences around the names: the one of release 2 is "scene", the 80 of release 1 "imagenet"."""
    synonyms: Synonyms | None = None
    """"first" uses a name up to its comma (release 2), "mean" averages all of them for each sentence (release 1)."""
    appearance: Literal["clip", "resnet101", "swin_b"] | None = None
    """What guides: CLIP's taps (release 2), or a network of its own (release 1): ResNet-101 beside towers up to B;
    Swin-B, which stays frozen, beside larger ones."""
    appearance_weights: Path | None = None
    """A released classifier's file: torchvision's ResNet-101, or Swin-B of 384 px; random if not given."""
    hidden: int | None = None
    """Width of a cost embedding, the decoder in proportion; the published 128 if not given."""
    aggregator: AggregatorSettings | None = None
    """All sizes of the aggregator; they follow from the rest if not given."""
    cost_gain: float = 1.0
    """New weights of the cost embedding are multiplied by it; cosines differ little, so that short runs learn sooner
    with a gain of about 10."""
    class_prior: float = 0.5
    """Share of the pixels that new weights give to each class; one over the classes of a step spares a short run its
    first steps."""
    train_clip: TrainClip = "none"
    """Which weights of CLIP learn, at a hundredth of the rate; releases 2 and 1 learn the first two."""
    loss: str = "entropy"
    """Loss of the class maps (`clipself.losses.CLASS_MAP_LOSSES`)."""
    classes_per_step: int | None = None
    """Classes looked at in a step: those of the step, filled up by chance. All of them if not given."""
    ignored: Literal["masked", "negative"] = "masked"
    """Unlabelled pixels are left out; "negative" counts them against every class, as the release does."""

    def check(self) -> None:
        """Refuses what no CAT-Seg can be.

        Raises:
            ValueError: A size or a share is outside its range.
        """
        self.check_sizes("image_size", "hidden")
        self.check_not_negative("taps")
        self.check_positive("cost_gain")
        if self.classes_per_step is not None and self.classes_per_step < 2:
            raise ValueError(f"classes_per_step={self.classes_per_step} leaves nothing to tell apart; use at least 2")
        if not 0.0 < self.class_prior < 1.0:
            raise ValueError(f"class_prior={self.class_prior} is not in (0, 1); it is a share of the pixels")
