"""Settings of mask generators, our own and published."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from clipself.engine.fields import UNSET
from clipself.engine.resolve import recipe
from clipself.panoptic.config import PanopticTrainConfig
from clipself.panoptic.settings import MaskLossSettings, OwnMasksSettings


def small() -> PanopticTrainConfig:
    """Small decoders at 256 px: minutes on a CPU."""
    return PanopticTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, lr=1e-3, loss=MaskLossSettings(num_points=1024),
        generator=OwnMasksSettings(image_size=256, channels=64, pixel_layers=1, queries=24, templates="simple"),
    )  # fmt: skip


def fcclip() -> PanopticTrainConfig:
    """FC-CLIP's decoders and optimisation (arXiv:2308.02487): 50 epochs at 1024 px, 16 pictures, jitter 0.1 to 2.

    The release steps its learning rate down twice near the end where this one falls as a cosine; its CLIP is a ConvNeXt
    with a pyramid of its own, here any vision transformer with rescaled taps.
    """
    return replace(
        small(), model="EVA02-B-16", pretrained="merged2b_s8b_b131k", jitter=(0.1, 2.0), epochs=50, batch_size=16,
        lr=1e-4, weight_decay=0.05, warmup_steps=10, clip_norm=0.01, precision="fp16", save_every=5000, workers=4,
        loss=MaskLossSettings(num_points=12544),
        generator=OwnMasksSettings(
            image_size=1024, channels=256, pixel_layers=6, pixel_hidden=1024, layers=9, hidden=2048, queries=250,
            heads=8,
        ),
    )  # fmt: skip


PANOPTIC_RECIPES: Final[Mapping[str, Callable[[], PanopticTrainConfig]]] = {"small": small, "fcclip": fcclip}


def panoptic_recipe(name: str, **changes: Any) -> PanopticTrainConfig:
    """A recipe by name with some settings replaced.

    Raises:
        ValueError: There is no such recipe.
    """
    return recipe(PANOPTIC_RECIPES, name, **changes)
