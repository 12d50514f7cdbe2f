"""Settings of contrastive pre-training; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipself.engine.config import RunConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig(RunConfig):
    """One contrastive pre-training of a CLIP on pictures with captions."""

    annotations: Path
    """COCO captions JSON, a .tsv of path and caption, a .csv whose first line names its columns, a .jsonl, a .tar
    shard as WebDataset writes it, or a folder or a pattern of shards, such as "shards/{000..127}.tar", also behind an
    address."""
    images: Path | None = None
    """Folder that paths are relative to; shards hold their pictures."""
    scratch: bool = False
    """Begin with new weights whatever the model holds; a stem that stays frozen is kept."""
    contrast: Literal["softmax", "focal"] = "softmax"
    """CLIP's loss of pairs, or RO-ViT's focal one."""
    start_temperature: float | None = None
    """Factor of the cosine to begin with, which is learned; the model's own if not given, CLIP's 1 / 0.07 from
    scratch."""
    most_temperature: float = 100.0
    """What the factor may grow to."""
    image_size: int | None = None
    """Side of the input in pixels; the model's own if not given."""
    picture_area: tuple[float, float] = (0.9, 1.0)
    """Least and largest share of a picture's area that is seen."""
    cropped_positions: bool = False
    """RO-ViT: positions as of a random crop of a larger picture."""
    crop_grid: int = 64
    """Side of the larger picture's grid, in patches."""
    crop_area: tuple[float, float] = (0.1, 1.0)
    """Least and largest share of that grid's area."""
    crop_aspect: tuple[float, float] = (0.5, 2.0)
    """Least and largest width over height of a crop of it."""
    position_drop: float = 0.0
    """CFM-ViT: probability that a picture has no positions at all (0.5 there)."""
    hidden: float = 0.0
    """CFM-ViT: share of the patches that are hidden and reconstructed (0.75 there); no reconstruction at 0."""
    reconstruction_weight: float = 1.0
    """Weight of the reconstruction beside the contrast."""
    counted: Literal["all", "masked"] = "all"
    """Whether its mean runs over all patches or the hidden ones alone."""
    decoder_layers: int = 2
    """Blocks of the decoder that reconstructs."""
    decoder_width: int = 512
    """Their channels; a multiple of 64, or of 32 below that."""
    grad_checkpointing: bool = False
    """Recompute activations of the image tower in the backward pass: less memory, more time."""
    skip_unreadable: bool = True
    """Whether a damaged pair is skipped with a warning, or ends the run."""
    epochs: float = 10.0
    batch_size: int = 32
    """Pairs of one process in a micro-batch; the contrast spans those of all processes, not of accumulated ones."""
    flip: float = 0.0
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.1
    evaluate_limit: int | None = 1000
    """First pictures only, in evaluations within the run."""

    def check(self) -> None:
        """Refuses what no pre-training can mean.

        Raises:
            ValueError: A setting is outside its range, or two exclude each other.
        """
        self.check_sizes("image_size", "crop_grid", "decoder_width", "decoder_layers")
        self.check_shares("picture_area", "crop_area", "position_drop", "hidden")
        self.check_positive("start_temperature", "most_temperature", "picture_area", "crop_area", "crop_aspect")
        self.check_not_negative("reconstruction_weight")
        for name in ("picture_area", "crop_area", "crop_aspect"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}={(low, high)} must ascend")
        if self.hidden == 1:
            raise ValueError("hidden=1 leaves no patch to see; CFM-ViT hides 0.75 of them")
        if self.accumulate > 1 and self.batch_size == 1:
            raise ValueError(
                "batch_size=1 has nothing to tell a pair apart from; accumulated micro-batches do not meet"
            )
