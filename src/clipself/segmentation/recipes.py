"""Settings of segmentation training, published and our own.

A recipe gives everything but data and output; a caller replaces what differs.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from clipself.engine.fields import UNSET
from clipself.engine.resolve import recipe
from clipself.segmentation.catseg.settings import CatSegSettings
from clipself.segmentation.config import SegmentationTrainConfig
from clipself.segmentation.san.settings import SanSettings


def small_catseg() -> SegmentationTrainConfig:
    """CAT-Seg at a quarter of its width on a frozen small CLIP: minutes on a CPU."""
    return SegmentationTrainConfig(
        annotations=UNSET, out=UNSET, crop=256, shortest=(256, 320), max_steps=1200, batch_size=2, lr=3e-3,
        warmup_steps=20, clip_norm=1.0,
        segmenter=CatSegSettings(
            image_size=256, readout="value", hidden=32, cost_gain=10.0, class_prior=0.06, classes_per_step=16
        ),
    )  # fmt: skip


def small_san() -> SegmentationTrainConfig:
    """SAN at half its width on a frozen small CLIP: minutes on a CPU."""
    return SegmentationTrainConfig(
        annotations=UNSET, out=UNSET, crop=256, shortest=(256, 320), max_steps=900, batch_size=4, lr=1e-3,
        warmup_steps=20, clip_norm=1.0,
        segmenter=SanSettings(
            side_width=120, queries=40, clip_scale=1.0, logit_scale=30.0, learn_positions=False, num_points=1024
        ),
    )  # fmt: skip


def catseg_b() -> SegmentationTrainConfig:
    """CAT-Seg, second release, OpenAI ViT-B/16: COCO-Stuff 171, 80 000 steps of 4 pictures.

    Two things differ on purpose: unlabelled pixels are left out (`ignored="negative"` is the release), and all
    processes together make a batch of 4, so that four of them take `batch_size=1`.
    """
    return SegmentationTrainConfig(
        annotations=UNSET, out=UNSET, model="ViT-B-16", pretrained="openai", crop=384, shortest=(384,),
        max_steps=80_000, batch_size=4, lr=2e-4, weight_decay=1e-4, schedule="cosine", clip_norm=0.01,
        precision="fp32", workers=4, save_every=5000,
        segmenter=CatSegSettings(image_size=384, train_clip="queries-values"),
    )  # fmt: skip


def catseg_l() -> SegmentationTrainConfig:
    """CAT-Seg, second release, OpenAI ViT-L/14 at 336 px."""
    b16 = catseg_b()
    segmenter = CatSegSettings(image_size=336, train_clip="queries-values")
    return replace(b16, model="ViT-L-14-336", segmenter=segmenter)


def catseg_v1_b() -> SegmentationTrainConfig:
    """CAT-Seg, first release, as CLIPSelf used it: a ResNet-101 beside CLIP, whose visual attention learns."""
    segmenter = CatSegSettings(release=1, image_size=384, train_clip="visual-attention")
    return replace(catseg_b(), segmenter=segmenter)


def san_b() -> SegmentationTrainConfig:
    """SAN with OpenAI ViT-B/16: COCO-Stuff 171, 60 000 steps of 32 pictures."""
    return SegmentationTrainConfig(
        annotations=UNSET, out=UNSET, model="ViT-B-16", pretrained="openai", crop=640,
        shortest=tuple(range(320, 961, 64)), max_steps=60_000, batch_size=32, lr=1e-4, weight_decay=1e-4,
        schedule="poly", clip_norm=0.01, precision="fp16", workers=4, save_every=5000, segmenter=SanSettings(),
    )  # fmt: skip


def san_l() -> SegmentationTrainConfig:
    """SAN with OpenAI ViT-L/14 at 336 px."""
    return replace(san_b(), model="ViT-L-14-336")


SEGMENT_RECIPES: Final[Mapping[str, Callable[[], SegmentationTrainConfig]]] = {
    "small-catseg": small_catseg,
    "small-san": small_san,
    "catseg-b": catseg_b,
    "catseg-l": catseg_l,
    "catseg-v1-b": catseg_v1_b,
    "san-b": san_b,
    "san-l": san_l,
}


def segment_recipe(name: str, **changes: Any) -> SegmentationTrainConfig:
    """A recipe by name with some settings replaced.

    Raises:
        ValueError: There is no such recipe.
    """
    return recipe(SEGMENT_RECIPES, name, **changes)
