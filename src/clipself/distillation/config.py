"""Settings of self-distillation; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clipself.distillation.methods import make_settings
from clipself.distillation.settings import MethodSettings
from clipself.engine.config import RunConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig(RunConfig):
    """One run of self-distillation: a CLIP teaches its own dense map what its crops mean."""

    data: Path
    """Folder of images (any nesting), one that `datasets` has saved, or tar shards, such as "shards/{000..127}.tar",
    also behind an address; for proposals the folder that the annotation's file names are relative to."""
    student: Path | None = None
    """Export folder that the student starts from, the student of an earlier run; the model itself if not given."""
    method: MethodSettings = field(default_factory=make_settings)
    """How the student learns, and the settings of that method."""
    regions: Literal["patches", "random-boxes", "proposals"] = "patches"
    """Random m x n grids of image patches, random boxes of every size (neither needs annotations), or the boxes of
    `annotations` or `proposals`."""
    annotations: Path | None = None
    """COCO-style JSON that lists the images (and boxes); a folder is read whole if not given."""
    proposals: Path | None = None
    """COCO-results JSON of class-free boxes for the images of `annotations`."""
    image_size: int = 320
    """Side of the student's square input, in pixels; a multiple of the patch."""
    crop_size: int | None = None
    """Side of the teacher's crops in pixels; the model's own size if not given."""
    max_split: int = 6
    """Most rows or columns of a grid; random boxes are no smaller than a cell of that."""
    max_regions: int = 20
    """Most regions of an image."""
    enlarge: float | None = None
    """Sides of the teacher's crop relative to the region; 1.5 for proposals and else 1 if not given."""
    readout: str = "value"
    """How the last block becomes a dense map."""
    trainable_blocks: int | None = None
    """Last blocks of the student that learn; all of them if not given."""
    keep_image: float = 0.0
    """Weight of a term that keeps the student's embedding of the whole image at the original's; 0 for none."""
    keep_crops: float = 0.0
    """Share of the crops whose embeddings are kept beside those of whole images; of no account without `keep_image`."""
    alpha: float = 0.7
    """Share of the student in the blended weights: alpha * student + (1 - alpha) * original."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    views: int | None = None
    """Draws of an image's regions (and of its mirroring) that the epochs take in turn; drawn anew in each if not given.
    With `teacher_cache`, epochs after so many cost the student alone."""
    teacher_cache: Path | None = None
    """Folder of a disk cache of teacher embeddings; keyed by weights, file and box, so nothing stale is used."""
    skip_unreadable: bool = True
    """Whether a damaged image is skipped with a warning, or ends the run."""

    def check(self) -> None:
        """Refuses what no distillation can mean.

        Raises:
            ValueError: A setting is outside its range, or one that it needs is missing.
        """
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha={self.alpha} is not in [0, 1]; it is the share of the student in the blend")
        self.check_sizes("image_size", "crop_size")
        self.check_counts("max_split", "max_regions", "views")
        self.check_not_negative("trainable_blocks", "keep_image")
        self.check_shares("keep_crops")
        self.check_positive("enlarge")
        self.check_at_most(1e3, "enlarge", "keep_image")
        if self.regions == "proposals" and self.annotations is None:
            raise ValueError("proposals need annotations=, the COCO-style JSON that lists the images they belong to")
        self.check_evaluation_images()
