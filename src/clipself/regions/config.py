"""Settings of region evaluation; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipself.engine.config import Settings
from clipself.renamed import old_names

__getattr__ = old_names(__name__)

MODES: Final = ("boxes", "thing_masks", "stuff_masks", "crops")
"""What is classified: boxes of things by RoIAlign, pooled masks of things and stuff, image crops (upper bound)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionsEvaluateConfig(Settings):
    """One evaluation of region classification."""

    annotations: Path
    """COCO panoptic JSON (boxes, masks, stuff) or COCO instances JSON (things only)."""
    images: Path
    """Folder of the pictures."""
    model: tuple[str, ...] = ("clipself-mini",)
    """open_clip names, "clipself-mini", or export folders; several are compared side by side."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    text_from: str | None = None
    """Release whose text tower is taken where a checkpoint has none."""
    image_size: int | None = None
    """Side of the square input of the dense map, in pixels; a multiple of the patch. If not given, each model is read
    at the size it was refined at, which its card says, else at the published 1024 (small models at twice their own)."""
    crop_size: int | None = None
    """Side of the image crops in pixels; the model's own size if not given."""
    modes: tuple[str, ...] = MODES
    """Which of boxes, thing_masks, stuff_masks and crops to score."""
    readout: str | None = None
    """How the last block becomes a dense map; what the model was refined with if not given, else "value"."""
    templates: str = "detection"
    """Sentences around the names: detection, imagenet, simple, or a text file with one sentence a line."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
    limit: int | None = None
    """First images only."""
    out: Path | None = None
    """Folder for the JSON and the comparison picture; nothing is written if not given."""

    def check(self) -> None:
        """Refuses what no evaluation can mean.

        Raises:
            ValueError: A mode is unknown, there is no model, or the limit leaves no images.
        """
        unknown = sorted(set(self.modes) - set(MODES))
        if unknown or not self.modes:
            raise ValueError(f"unknown mode {unknown[0] if unknown else ''!r}, expected some of {list(MODES)}")
        if not self.model:
            raise ValueError("there is no model to evaluate; name at least one")
        self.check_counts("limit")
        self.check_sizes("image_size", "crop_size")
