"""What the parts of panoptic segmentation can be told; each part owns its settings. Free of heavy imports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from clipself.engine.config import Settings

FCCLIP_SIDES: Final[Mapping[str, Any]] = {"image_size": 1024, "shortest": 800, "longest": 1333}
"""FC-CLIP's input, in pixels: of training, and bounds of the sides in predictions on COCO and ADE20K."""

Scores = Literal["clip", "generator", "both", "both-odise", "both-odise-caption"]
"""Rows of `mixture.MIXTURES`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionSettings(Settings):
    """How a diffusion model is read where decoders stand on one."""

    captioner: bool = True
    """Whether it is told what the CLIP sees of the picture, by a captioner that learns; else the empty text."""
    projection: int = 512
    """Channels of every level of its pyramid; a multiple of 128."""
    crop: int = 512
    """Side of the squares that it sees, in pixels; those of larger pictures overlap, of smaller ones are enlarged."""

    def check(self) -> None:
        """Refuses sizes that the norms or the latents do not have.

        Raises:
            ValueError: The width is no multiple of 128, or the crops are none of 64.
        """
        self.check_sizes("projection", "crop")
        if self.projection % 128 or self.crop % 64:
            raise ValueError(
                f"projection={self.projection} must be a multiple of 128, the groups of the norms, and "
                f"crop={self.crop} one of 64, the coarsest step of the diffusion model"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskGeneratorSettings(Settings):
    """What makes a mask generator of our own what it is; saved beside its weights.

    A generator's own settings are a subclass that fixes `method`, the name of its row in `LEARNED`, by
    `field(default=NAME, init=False)`, so that saved settings tell whose they are.
    """

    make: ClassVar[Callable[..., Any]]
    """`learned.make_settings`: the table, which knows this class, says it."""
    method: str
    """Which generator (`clipself.panoptic.generators.LEARNED`)."""
    features: str = "clip"
    """What the decoders stand on, frozen: "clip", its taps; or "diffusion:NAME", a text-to-image model in diffusers'
    layout, hub name or folder."""
    diffusion: DiffusionSettings = field(default_factory=DiffusionSettings)
    """How such a model is read."""
    taps: tuple[int, ...] | None = None
    """Blocks of the CLIP that are read, ascending; the middle one and the last but one if not given."""
    image_size: int = 320
    """Longest side of the input, and side of the square training input, in pixels."""
    shortest: int | None = None
    """Shortest side of the input in predictions, in pixels, in place of the longest; published generators have one."""
    longest: int = 2560
    """Bound of the longest side where `shortest` is given."""
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
    """Sentences around the names that the class head compares with: vild, simple, name (the name alone), detection,
    imagenet, or a file."""

    def check(self) -> None:
        """Refuses shapes that no decoder has.

        Raises:
            ValueError: A size is below 1, or the width does not divide.
        """
        self.check_not_negative("taps")
        self.check_sizes(
            "image_size", "shortest", "longest", "channels", "pixel_layers", "pixel_hidden", "layers", "hidden",
            "queries", "heads",
        )  # fmt: skip
        if self.channels % 32 or self.channels % self.heads:
            raise ValueError(
                f"channels={self.channels} must be a multiple of 32, the groups of the norms, and of heads={self.heads}"
            )

    def decoder_sizes(self) -> dict[str, int]:
        """Keywords of both decoders."""
        names = ("channels", "pixel_layers", "pixel_hidden", "layers", "hidden", "queries", "heads")
        return {name: getattr(self, name) for name in names}

    def located(self) -> "MaskGeneratorSettings":
        """The same with the absolute path of a folder that `features` names: it holds from any working directory."""
        return self.with_folder(lambda name: str(Path(name).absolute()) if Path(name).is_dir() else name)

    def with_folder(self, change: Callable[[str], str]) -> "MaskGeneratorSettings":
        """The same with another name behind the kind of `features`."""
        kind, colon, name = self.features.partition(":")
        return replace(self, features=f"{kind}{colon}{change(name)}") if name else self

    @classmethod
    def from_table(cls, values: Mapping[str, Any]) -> "MaskGeneratorSettings":
        """What `to_json` gave, or some settings of the generator that `method` names."""
        made: MaskGeneratorSettings = cls.make(**values)
        return made

    def changed(self, changes: Mapping[str, Any]) -> "MaskGeneratorSettings":
        """Some settings replaced; another `method` takes over what both generators know."""
        known = self.from_table({"method": changes.get("method", self.method)}).to_json()
        kept = {name: value for name, value in self.to_json().items() if name in known and name != "method"}
        method = changes.get("method", self.method)
        merged = {
            name: {**kept[name], **value}
            if isinstance(value, Mapping) and isinstance(kept.get(name), Mapping)
            else value
            for name, value in changes.items()
        }
        return self.from_table({**kept, **merged, "method": method})


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnMasksSettings(MaskGeneratorSettings):
    """FC-CLIP's decoders and its class head (arXiv:2308.02487)."""

    method: str = field(default="fcclip", init=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class OdiseSettings(MaskGeneratorSettings):
    """ODISE's decoders and heads (arXiv:2303.04803)."""

    method: str = field(default="odise", init=False)
    supervision: Literal["label", "caption"] = "label"
    """What classes are learnt from: the labels of segments, or nouns of the picture's captions (`captions`)."""
    words: int = 8
    """Nouns of a caption that are looked for at most."""
    templates: str = "name"

    def check(self) -> None:
        """Refuses captions without words.

        Raises:
            ValueError: There are none.
        """
        self.check_counts("words")


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
    caption_weight: float = 2.0
    """Weight of the grounding of captions, where classes are learnt from them."""

    def check(self) -> None:
        """Refuses weights below 0.

        Raises:
            ValueError: One of them is, or there are no points.
        """
        self.check_counts("num_points")
        self.check_not_negative("class_weight", "mask_weight", "dice_weight", "no_object", "caption_weight")


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeSettings(Settings):
    """How the CLIP judges masks."""

    by: Literal["masks", "crops", "tokens", "attention"] = "masks"
    """How it sees a mask: pooled from its dense map, cut out of the picture, by ODISE's mask tokens, or,
    with ResNets, by FC-CLIP's attention over its pixels."""
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
    """Refuses masks from two places; from nowhere means the packaged generator.

    Raises:
        ValueError: Both are given.
    """
    if checkpoint is not None and masks is not None:
        raise ValueError(
            f"checkpoint={checkpoint} and masks={masks}: masks come from one of them, a trained generator (checkpoint, "
            "such as a folder of `panoptic train`) or stored masks (masks, such as a JSON)"
        )
