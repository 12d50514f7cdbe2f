"""How a CAT-Seg is built and trained; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from typing import Literal

Synonyms = Literal["first", "mean"]
TrainClip = Literal["queries-values", "visual-attention", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AggregatorSettings:
    """Sizes of an aggregator; the defaults are those of the second release for ViT-B/16.

    Attributes:
        text_channels: Width of the joint space.
        guidance_channels: Width of the guiding map at the grid.
        decoder_guidance_channels: Widths of the guiding maps at twice and four times the grid.
        prompts: Sentences of a class; each gives a cost map of its own.
        hidden: Width of a cost embedding.
        projected: Width of guidance, of texts and of the map alike.
        decoder_channels: Widths of the two upsampling steps.
        decoder_projected: Widths of their guidance.
        layers: Spatial and class steps.
        heads: Attention heads of both.
        window: Side of the windows, in patches.
        pad_classes: Fewer classes than this are filled up with a learnt one; 0 for none, as in the first release.
    """

    text_channels: int = 512
    guidance_channels: int = 512
    decoder_guidance_channels: tuple[int, int] = (256, 128)
    prompts: int = 1
    hidden: int = 128
    projected: int = 128
    decoder_channels: tuple[int, int] = (64, 32)
    decoder_projected: tuple[int, int] = (32, 16)
    layers: int = 2
    heads: int = 4
    window: int = 12
    pad_classes: int = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class CatSegSettings:
    """How a CAT-Seg is built on a CLIP.

    Attributes:
        image_size: Side of the square that CLIP sees, in pixels; images are squashed to it.
        taps: Blocks whose outputs guide the decoder, at twice and at four times the grid.
        readout: "catseg" (class token's residual, second release) or "value" (each token's own, first release).
        templates: Set of sentences; "scene" is the one of the second release, "imagenet" the 80 of the first.
        synonyms: "first" uses the name up to a comma; "mean" averages all of them for each sentence.
        appearance: "clip" taps, or "resnet101" as a backbone of its own.
        aggregator: Sizes of the aggregator.
    """

    image_size: int = 384
    taps: tuple[int, int] = (3, 7)
    readout: str = "catseg"
    templates: str = "scene"
    synonyms: Synonyms = "first"
    appearance: Literal["clip", "resnet101"] = "clip"
    aggregator: AggregatorSettings = field(default_factory=AggregatorSettings)
