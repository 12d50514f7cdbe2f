"""How a SAN is built and trained; free of heavy imports so that `--help` is quick."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from clipself.engine.config import Settings
from clipself.segmentation.settings import SegmenterSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class SideSettings(Settings):
    """Sizes of the side network; the defaults are those beside ViT-B/16."""

    width: int = 240
    """Of its tokens."""
    depth: int = 8
    """Blocks."""
    heads: int = 6
    """Attention heads of a block."""
    patch: int = 16
    """Side of a patch, in pixels."""
    table_size: int = 640
    """Side of the image that its position table is made for, in pixels."""
    queries: int = 100
    """Masks proposed."""
    channels: int = 256
    """Width of the mask embeddings."""
    clip_heads: int = 12
    """Attention heads of CLIP, each of which gets a bias of its own."""
    fusion: Mapping[int, int] = field(default_factory=lambda: {0: 0, 3: 1, 6: 2, 9: 3})
    """CLIP tap -> side depth at which it is added; tap 0 and depth 0 are what enters the first block of each."""
    supervised: tuple[int, ...] = (7, 8)
    """Side depths whose predictions are trained; the last one is the result."""

    def check(self) -> None:
        """Refuses sizes that make no network.

        Raises:
            ValueError: A size is below 1, or the width is no multiple of the heads.
        """
        self.check_sizes("width", "depth", "heads", "patch", "table_size", "queries", "channels", "clip_heads")
        self.check_not_negative("supervised")
        if self.width % self.heads:
            raise ValueError(f"width={self.width} of the side network is no multiple of its {self.heads} heads")
        if self.table_size < self.patch:
            raise ValueError(f"table_size={self.table_size} is less than a patch of {self.patch} pixels")


@dataclass(frozen=True, kw_only=True, slots=True)
class SanSettings(SegmenterSettings):
    """SAN (arXiv:2302.12242): a slim network beside CLIP proposes masks and tells CLIP where to look."""

    method: str = field(default="san", init=False)
    split: int | None = None
    """Blocks of CLIP that extract features; the others recognise. Three quarters of them if not given."""
    clip_scale: float | None = None
    """Side of CLIP's input over that of the picture; the published 0.5 (0.7 for patches of 14) if not given."""
    cut_remainder: bool = False
    """Whether what is left of CLIP's input beside whole patches is cut off, as published, which moves its map against
    that of the side network; else the input is resized to whole patches."""
    templates: str = "vild"
    """Sentences around the names."""
    logit_scale: float = 100.0
    """Factor of the cosines of masks and names; the published 100 is that of OpenAI's CLIPs."""
    learn_positions: bool = True
    """Whether CLIP's position table learns, as published: the only weight of CLIP that does. Without it the backward
    pass is shorter."""
    side_width: int | None = None
    """Width of the side network; the published 240 if not given."""
    queries: int | None = None
    """Masks proposed; the published 100 if not given."""
    side: SideSettings | None = None
    """All sizes of the side network; they follow from the rest if not given."""
    num_points: int = 12544
    """Points of a mask in matching and loss."""

    def check(self) -> None:
        """Refuses what no SAN can be.

        Raises:
            ValueError: A size is outside its range.
        """
        self.check_sizes("split", "side_width", "queries")
        self.check_counts("num_points")
        self.check_positive("clip_scale", "logit_scale")
        self.check_at_most(16, "clip_scale")
