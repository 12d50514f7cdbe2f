"""Settings of panoptic segmentation; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipself.engine.settings import RunSettings
from clipself.renamed import old_names

__getattr__ = old_names(__name__)

Scores = Literal["clip", "generator", "both", "both-odise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticTrainConfig(RunSettings):
    """Trains a mask generator of our own: FC-CLIP's decoders on a frozen CLIP."""

    annotations: Path
    """COCO or ADE20K panoptic JSON, its PNGs in the folder beside it."""
    images: Path
    """Folder of the pictures."""
    out: Path
    """Folder of the run: settings, log, metrics, training state and the mask model."""
    segments: Path | None = None
    """Folder of the PNGs where it is elsewhere."""
    without: Path | None = None
    """Text file of class names; pictures that hold one are left out, so that these classes stay unseen."""
    model: str = "clipself-mini"
    """The frozen CLIP: open_clip name, "clipself-mini", or an export folder."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    image_size: int = 320
    """Side of the square training input, in pixels."""
    taps: tuple[int, ...] | None = None
    """Blocks of the CLIP that are read; the middle one and the last but one if not given."""
    channels: int = 96
    """Width of decoders and mask features; a multiple of 32."""
    pixel_layers: int = 2
    """Deformable layers of the pixel decoder."""
    pixel_hidden: int = 256
    """Width inside their feed-forward."""
    layers: int = 3
    """Layers of the masked decoder."""
    hidden: int = 256
    """Width inside their feed-forward."""
    queries: int = 40
    """How many masks a picture has at most."""
    heads: int = 4
    """Attention heads of both decoders."""
    templates: str = "vild"
    """Sentences around the names: vild, simple, detection, imagenet, or a text file."""
    jitter: tuple[float, float] = (0.8, 1.5)
    """Bounds of the random scale of a picture; (0.1, 2.0) as published."""
    flip: float = 0.5
    """Probability of a mirrored picture."""
    num_points: int = 2048
    """Points at which a mask is compared; 12544 as published."""
    class_weight: float = 2.0
    """Weight of the class term."""
    mask_weight: float = 5.0
    """Weight of the mask's cross entropy."""
    dice_weight: float = 5.0
    """Weight of the mask's dice."""
    no_object: float = 0.1
    """Weight of "no object" in the class term."""
    epochs: float = 12.0
    """Passes over the pictures."""
    max_steps: int | None = None
    """Optimizer steps; takes the place of `epochs`."""
    batch_size: int = 4
    """Pictures of one process in a micro-batch."""
    accumulate: int = 1
    """Micro-batches of one optimizer step."""
    lr: float = 5e-4
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.05
    """Decay of matrices; vectors do not decay."""
    warmup_steps: int = 50
    """Steps of the linear ramp; at most a tenth of the run is used."""
    clip_norm: float | None = 1.0
    """Largest norm of all gradients; 0.01 as published."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the forward pass; auto is bf16 where the device multiplies it natively, else fp32."""
    workers: int = 2
    """Processes that decode pictures; they change nothing but speed."""
    seed: int = 0
    """Seed of weights, order, scales and points."""
    save_every: int = 200
    """Steps between training states; 0 saves only at the end."""
    tensorboard: bool = False
    """Write TensorBoard events into the run's folder."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
    resume: bool = False
    """Continue the run in `out` where its last saved state ends."""
    overwrite: bool = False
    """Start anew in a folder that already holds a run."""

    def __post_init__(self) -> None:
        self.check_counts("image_size", "batch_size", "accumulate", "queries", "layers", "num_points")
        if not 0 < self.jitter[0] <= self.jitter[1]:
            raise ValueError(f"jitter={self.jitter} must be two scales above 0, the smaller one first")
        self.check_schedule(lr=self.lr, epochs=self.epochs, max_steps=self.max_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticConfig:
    """What evaluating and predicting share."""

    masks: str
    """Where masks come from: a folder that `panoptic train` wrote; a panoptic JSON, a list of run lengths or a folder
    of such lists; or "hf:NAME" for a Mask2Former or MaskFormer of transformers, hub name or folder."""
    scores: tuple[Scores, ...] = ("clip",)
    """Class scores: "clip" alone, "generator" alone, "both" (FC-CLIP's shares) or "both-odise"."""
    judge_by: Literal["masks", "crops", "tokens"] = "masks"
    """How the CLIP sees a mask: pooled from its dense map, cut out of the picture, or by ODISE's mask tokens."""
    image_size: int = 640
    """Longest side that the CLIP sees, in pixels; the aspect is kept."""
    readout: str = "value"
    """How the last block becomes a dense map."""
    templates: str = "vild"
    """Sentences around the names: vild, simple, detection, imagenet, or a text file."""
    object_threshold: float = 0.0
    """Masks below this class probability stay out of the panoptic map."""
    overlap_threshold: float = 0.8
    """Least share of its own area that a mask must win there."""
    top: int = 100
    """Pairs of mask and class looked at for instances."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticEvaluateConfig(PanopticConfig):
    """PQ, mask AP, mIoU and mask accuracy of each model with each way of scoring."""

    annotations: Path
    """COCO or ADE20K panoptic JSON, its PNGs in the folder beside it."""
    images: Path
    """Folder of the pictures."""
    segments: Path | None = None
    """Folder of the PNGs where it is elsewhere."""
    models: tuple[str, ...] = ("clipself-mini",)
    """CLIPs that judge: open_clip names, "clipself-mini", or export folders; masks stay the same for all."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for named models."""
    limit: int | None = None
    """First pictures only."""
    out: Path | None = None
    """Folder for the JSON, the predictions in COCO's format, and pictures."""
    pictures: int = 6
    """How many pictures to draw there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticPredictConfig(PanopticConfig):
    """Segments pictures by names given here; writes panoptic PNGs, JSON and drawings."""

    inputs: tuple[Path, ...]
    """Picture files or folders of them."""
    things: str = ""
    """Countable classes: names joined by ";", a text file with one a line, or a packaged vocabulary; commas within a
    name separate synonyms."""
    stuff: str = ""
    """Uncountable classes, likewise."""
    out: Path = Path("panoptic")
    """Folder to write."""
    model: str = "clipself-mini"
    """The CLIP that judges: open_clip name, "clipself-mini", or an export folder."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
