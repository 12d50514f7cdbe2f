"""How a SAN is built and trained; free of heavy imports so that `--help` is quick."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class SideSettings:
    """Sizes of the side network; the defaults are those beside ViT-B/16.

    Attributes:
        width: Of its tokens.
        depth: Blocks.
        heads: Attention heads of a block.
        patch: Side of a patch, in pixels.
        table_size: Side of the image that its position table is made for, in pixels.
        queries: Masks proposed.
        channels: Width of the mask embeddings.
        clip_heads: Attention heads of CLIP, each of which gets a bias of its own.
        fusion: CLIP tap -> side depth at which it is added; tap 0 and depth 0 are what enters the first block of each.
        supervised: Side depths whose predictions are trained; the last one is the result.
    """

    width: int = 240
    depth: int = 8
    heads: int = 6
    patch: int = 16
    table_size: int = 640
    queries: int = 100
    channels: int = 256
    clip_heads: int = 12
    fusion: Mapping[int, int] = field(default_factory=lambda: {0: 0, 3: 1, 6: 2, 9: 3})
    supervised: tuple[int, ...] = (7, 8)


@dataclass(frozen=True, kw_only=True, slots=True)
class SanSettings:
    """How a SAN is built on a CLIP.

    Attributes:
        split: Blocks of CLIP that extract features; the others recognise.
        clip_scale: Side of CLIP's input over that of the picture; 0.5 for B/16, 0.7 for L/14.
        cut_remainder: Whether what is left of CLIP's input beside whole patches is cut off, as published, which moves
            its map against that of the side network; else the input is resized to whole patches.
        templates: Set of sentences around the names.
        logit_scale: Cosines are multiplied by it.
        learn_positions: Whether CLIP's position table learns, as published: the only weight of CLIP that does.
        side: Sizes of the side network.
    """

    split: int = 9
    clip_scale: float = 0.5
    cut_remainder: bool = False
    templates: str = "vild"
    logit_scale: float = 100.0
    learn_positions: bool = True
    side: SideSettings = field(default_factory=SideSettings)
