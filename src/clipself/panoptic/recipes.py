"""Settings of mask generators, our own and published."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from clipself.engine.fields import UNSET
from clipself.engine.resolve import recipe
from clipself.panoptic.config import PanopticTrainConfig
from clipself.panoptic.settings import FCCLIP_SIDES, MaskLossSettings, OdiseSettings, OwnMasksSettings


def small() -> PanopticTrainConfig:
    """Small decoders at 256 px: minutes on a CPU."""
    return PanopticTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, lr=1e-3, loss=MaskLossSettings(num_points=1024),
        generator=OwnMasksSettings(image_size=256, channels=64, pixel_layers=1, queries=24, templates="simple"),
    )  # fmt: skip


def fcclip() -> PanopticTrainConfig:
    """FC-CLIP's decoders and optimisation (arXiv:2308.02487): 50 epochs at 1024 px, 16 pictures, jitter 0.1 to 2.

    Predictions see pictures with a shortest side of 800 px and a longest of at most 1333, as published.

    The release steps its learning rate down twice near the end where this one falls as a cosine; its CLIP is a ConvNeXt
    with a pyramid of its own, here any vision transformer with rescaled taps.
    """
    return replace(
        small(), model="EVA02-B-16", pretrained="merged2b_s8b_b131k", jitter=(0.1, 2.0), epochs=50, batch_size=16,
        lr=1e-4, weight_decay=0.05, warmup_steps=10, clip_norm=0.01, precision="fp16", save_every=5000, workers=4,
        loss=MaskLossSettings(num_points=12544),
        generator=OwnMasksSettings(
            **FCCLIP_SIDES, channels=256, pixel_layers=6, pixel_hidden=1024, layers=9, hidden=2048, queries=250,
            heads=8,
        ),
    )  # fmt: skip


def small_odise() -> PanopticTrainConfig:
    """ODISE's decoders and heads at 256 px on the packaged CLIP's own taps: minutes on a CPU, no diffusion model."""
    return replace(
        small(), generator=OdiseSettings(image_size=256, channels=64, pixel_layers=1, queries=24),
    )  # fmt: skip


def small_odise_caption() -> PanopticTrainConfig:
    """The same without labels: masks, and the nouns of captions (`captions`)."""
    small_label = small_odise()
    generator: Any = small_label.generator
    return replace(small_label, captions=UNSET, generator=replace(generator, supervision="caption"))


def coco_odise_label() -> PanopticTrainConfig:
    """ODISE (arXiv:2303.04803) on COCO's labels: Stable Diffusion 1.3, 1024 px, 92,188 steps of 64 pictures.

    32 processes of two pictures, as published. The release states its drops for 184,375 steps, at 163,889 and 177,546,
    and its engine takes such a schedule by shares of the run: 88.9 and 96.3 per cent of the steps that it does run.
    """
    return replace(
        small(), model="ViT-L-14-336", pretrained="openai", jitter=(0.1, 2.0), max_steps=92188, batch_size=2,
        lr=1e-4, schedule="constant", drop_steps=(81_946, 88_774), weight_decay=0.05, warmup_steps=500,
        exact_warmup=True, warmup_start=0.067, clip_norm=0.01, save_every=2000, workers=4,
        loss=MaskLossSettings(num_points=12544),
        generator=OdiseSettings(
            features="diffusion:CompVis/stable-diffusion-v1-3", image_size=1024, shortest=1024, longest=2560,
            channels=256, pixel_layers=6, pixel_hidden=1024, layers=9, hidden=2048, queries=100, heads=8,
        ),
    )  # fmt: skip


def coco_odise_caption() -> PanopticTrainConfig:
    """ODISE on COCO's masks without their labels, and COCO's captions (`captions`)."""
    label = coco_odise_label()
    generator: Any = label.generator
    return replace(label, captions=UNSET, generator=replace(generator, supervision="caption"))


PANOPTIC_RECIPES: Final[Mapping[str, Callable[[], PanopticTrainConfig]]] = {
    "small": small,
    "small-odise": small_odise,
    "small-odise-caption": small_odise_caption,
    "fcclip": fcclip,
    "coco-odise-label": coco_odise_label,
    "coco-odise-caption": coco_odise_caption,
}


def panoptic_recipe(name: str, **changes: Any) -> PanopticTrainConfig:
    """A recipe by name with some settings replaced.

    Raises:
        ValueError: There is no such recipe.
    """
    return recipe(PANOPTIC_RECIPES, name, **changes)
