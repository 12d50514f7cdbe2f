"""Segmenters at toy sizes, their published names and rule-filled checkpoints."""

from dataclasses import replace

import torch

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.transformer import require_blocks
from clipself.segmentation.catseg.model import CatSeg, catseg_settings
from clipself.segmentation.san.model import San
from clipself.segmentation.san.settings import SanSettings, SideSettings


def tiny_catseg(clip: DenseCLIP, *, image_size: int = 64, seed: int = 0) -> CatSeg:
    """CAT-Seg of width 16 on a tiny CLIP of 6 blocks."""
    settings = catseg_settings(clip, image_size=image_size)
    sizes = replace(
        settings.aggregator, hidden=16, projected=16, decoder_channels=(16, 8), decoder_projected=(8, 4), window=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CatSeg(clip, replace(settings, aggregator=sizes)).eval()


def tiny_san(clip: DenseCLIP, *, seed: int = 0) -> San:
    """SAN of width 24 with 6 queries on a tiny CLIP of 4 blocks."""
    side = SideSettings(
        width=24, depth=3, heads=2, patch=clip.patch_size, table_size=64, queries=6, channels=16,
        clip_heads=require_blocks(clip, "SAN").num_heads, fusion={0: 0, 1: 1}, supervised=(2, 3),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return San(clip, SanSettings(split=2, clip_scale=0.5, templates="simple", side=side)).eval()
