"""Settings of self-distillation, published and our own.

A recipe gives everything but data and output; a caller replaces what differs.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from clipself.distillation.config import DistillConfig
from clipself.distillation.declip.settings import DeclipSettings
from clipself.engine.fields import UNSET
from clipself.engine.resolve import recipe


def modern() -> DistillConfig:
    """Small inputs, a higher rate, native precision, and a term that keeps what the model says of images and crops."""
    return DistillConfig(data=UNSET, out=UNSET, keep_image=0.25, keep_crops=0.25)


def published() -> DistillConfig:
    """EVA-02 CLIP B/16 with image patches, as released: 1024 px, crops of 224, all 12 blocks, alpha 0.7.

    Source: CLIPSelf's released scripts; two images a process. The release never synchronised its eight processes, so
    that one process at batch 2 reproduces it, and many processes here are a truly larger batch. Each of the eight made
    44,358 steps, its share of 6 epochs of COCO, and these are the steps here; `epochs` counts passes in their place.
    """
    return DistillConfig(
        data=UNSET, out=UNSET, model="EVA02-B-16", pretrained="merged2b_s8b_b131k", image_size=1024, crop_size=224,
        max_split=6, max_regions=20, trainable_blocks=12, epochs=6, max_steps=44_358, batch_size=2, accumulate=1,
        lr=1e-5, weight_decay=0.1, betas=(0.9, 0.999), eps=1e-8, warmup_steps=1000, exact_warmup=True, precision="fp16",
        flip=0.0, clip_norm=None, alpha=0.7, workers=4, seed=0, save_every=1000,
    )  # fmt: skip


def published_eva_l14() -> DistillConfig:
    """EVA-02 CLIP L/14 at 336 px, as released: 896 px, crops of 336, all 24 blocks, alpha 0.95."""
    return replace(
        published(), model="EVA02-L-14-336", pretrained="merged2b_s6b_b61k", image_size=896, crop_size=336,
        trainable_blocks=24, alpha=0.95,
    )  # fmt: skip


def published_openai_b16() -> DistillConfig:
    """OpenAI ViT-B/16 by the same recipe; the release's optimizer defaults differ for names with "vit" in them."""
    return replace(published(), model="ViT-B-16", pretrained="openai", betas=(0.9, 0.98), eps=1e-6)


def published_openai_l14() -> DistillConfig:
    """OpenAI ViT-L/14 as its author advised: 672 px, the last 12 blocks; alpha was not published, L/14's is taken."""
    return replace(
        published_openai_b16(), model="ViT-L-14", pretrained="openai", image_size=672, crop_size=224,
        trainable_blocks=12, alpha=0.95,
    )  # fmt: skip


def published_declip_eva_b16() -> DistillConfig:
    """DeCLIP on EVA-02 CLIP B/16 at 560 px, guided by DINOv2 B/14; weights 1 and 0.1, all else as in CLIPSelf's.

    Source: DeCLIP (arXiv:2505.04410); its release, too, never synchronised its processes of two images.
    """
    guide = "timm:vit_base_patch14_dinov2.lvd142m"
    return replace(published(), image_size=560, method=DeclipSettings(guide=guide, context_weight=0.1))


RECIPES: Final[Mapping[str, Callable[[], DistillConfig]]] = {
    "modern": modern,
    "published": published,
    "published-eva-l14": published_eva_l14,
    "published-openai-b16": published_openai_b16,
    "published-openai-l14": published_openai_l14,
    "published-declip-eva-b16": published_declip_eva_b16,
}


def distill_recipe(name: str, **changes: Any) -> DistillConfig:
    """A recipe by name with some settings replaced.

    Raises:
        ValueError: There is no such recipe.
    """
    return recipe(RECIPES, name, **changes)
