"""Segmenters at toy sizes, their published names and rule-filled checkpoints."""

import torch

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.transformer import require_blocks
from clipself.segmentation.catseg.model import CatSeg
from clipself.segmentation.catseg.settings import AggregatorSettings, CatSegSettings
from clipself.segmentation.san.model import San
from clipself.segmentation.san.settings import SanSettings, SideSettings


def tiny_catseg(clip: DenseCLIP, *, image_size: int = 64, seed: int = 0, window: int = 4) -> CatSeg:
    """CAT-Seg of width 16 on a tiny CLIP of 6 blocks."""
    sizes = AggregatorSettings(
        text_channels=clip.embed_dim, guidance_channels=clip.embed_dim, hidden=16, projected=16,
        decoder_channels=(16, 8), decoder_projected=(8, 4), window=window,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CatSeg(clip, CatSegSettings(image_size=image_size, aggregator=sizes)).eval()


def tiny_san(clip: DenseCLIP, *, seed: int = 0) -> San:
    """SAN of width 24 with 6 queries on a tiny CLIP of 4 blocks."""
    side = SideSettings(
        width=24, depth=3, heads=2, patch=clip.patch_size, table_size=64, queries=6, channels=16,
        clip_heads=require_blocks(clip, "SAN").num_heads, fusion={0: 0, 1: 1}, supervised=(2, 3),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return San(clip, SanSettings(split=2, clip_scale=0.5, templates="simple", num_points=64, side=side)).eval()
