"""Settings of self-distillation; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipself.engine.settings import RunSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig(RunSettings):
    """One CLIPSelf run (arXiv:2310.01403): a CLIP teaches its own dense map what its crops mean."""

    data: Path
    """Folder of images (any nesting); for proposals the folder that the annotation's file names are relative to."""
    out: Path
    """Folder of the run: settings, log, metrics, training state, student and blended weights."""
    model: str = "clipself-mini"
    """open_clip name, "clipself-mini", or an export folder."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    student: Path | None = None
    """Export folder that the student starts from, the student of an earlier run; the model itself if not given."""
    regions: Literal["patches", "proposals"] = "patches"
    """Random m x n grids of image patches (no annotation), or the boxes of `annotations` or `proposals`."""
    annotations: Path | None = None
    """COCO-style JSON that lists the images (and boxes); a folder is read whole if not given."""
    proposals: Path | None = None
    """COCO-results JSON of class-free boxes for the images of `annotations`."""
    image_size: int = 320
    """Side of the student's square input, in pixels; a multiple of the patch."""
    crop_size: int | None = None
    """Side of the teacher's crops in pixels; the model's own size if not given."""
    max_split: int = 6
    """Most rows or columns of a grid."""
    max_regions: int = 20
    """Most regions of an image."""
    enlarge: float | None = None
    """Sides of the teacher's crop relative to the region; 1 for patches and 1.5 for proposals if not given."""
    flip: float = 0.0
    """Probability of a mirrored image."""
    readout: str = "value"
    """How the last block becomes a dense map."""
    trainable_blocks: int | None = None
    """Last blocks of the student that learn; all of them if not given."""
    epochs: float = 6.0
    """Passes over the images."""
    max_steps: int | None = None
    """Optimizer steps; takes the place of `epochs`."""
    batch_size: int = 2
    """Images of one process in a micro-batch."""
    accumulate: int = 1
    """Micro-batches of one optimizer step."""
    lr: float = 1e-5
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.1
    """Decay of matrices; vectors do not decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's moments."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    warmup_steps: int = 1000
    """Steps of the linear ramp; at most a tenth of the run is used."""
    exact_warmup: bool = False
    """Take `warmup_steps` as it is, however short the run."""
    clip_norm: float | None = None
    """Largest norm of all gradients; unlimited if not given."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the forward pass; auto is bf16 where the device multiplies it natively, else fp32."""
    alpha: float = 0.7
    """Share of the student in the blended weights: alpha * student + (1 - alpha) * original."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    compile: bool = False
    """Compile the student with torch.compile."""
    teacher_cache: Path | None = None
    """Folder of a disk cache of teacher embeddings; keyed by weights, file and box, so nothing stale is used."""
    workers: int = 2
    """Processes that decode images and cut crops; they change nothing but speed."""
    seed: int = 0
    """Seed of order, grids and proposals."""
    skip_unreadable: bool = True
    """Whether a damaged image is skipped with a warning, or ends the run."""
    save_every: int = 200
    """Steps between training states; 0 saves only at the end."""
    evaluate_every: int = 0
    """Steps between evaluations of region classification; 0 for none."""
    evaluate_annotations: Path | None = None
    """COCO panoptic or instances JSON for those evaluations."""
    evaluate_images: Path | None = None
    """Folder of its pictures."""
    tensorboard: bool = False
    """Write TensorBoard events into the run's folder."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
    resume: bool = False
    """Continue the run in `out` where its last saved state ends."""
    overwrite: bool = False
    """Start anew in a folder that already holds a run."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha={self.alpha} is not in [0, 1]; it is the share of the student in the blend")
        self.check_counts("image_size", "max_split", "max_regions", "batch_size", "accumulate")
        self.check_schedule(lr=self.lr, epochs=self.epochs, max_steps=self.max_steps)
        if self.regions == "proposals" and self.annotations is None:
            raise ValueError("proposals need annotations=, the COCO-style JSON that lists the images they belong to")
        if self.evaluate_every and (self.evaluate_annotations is None or self.evaluate_images is None):
            raise ValueError("evaluate_every needs evaluate_annotations and evaluate_images")
