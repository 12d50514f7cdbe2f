"""Settings of the detection commands; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clipself.detection.detectors.fvit import FViTSettings
from clipself.detection.detectors.settings import MethodSettings
from clipself.engine.settings import RunSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionTrainConfig(RunSettings):
    """One training run of a detector on base classes."""

    annotations: Path
    """COCO or LVIS instances JSON to train on."""
    images: Path
    """Folder that its file names are relative to."""
    out: Path
    """Folder of the run: settings, log, metrics, training state, detector."""
    model: str = "clipself-mini"
    """Frozen backbone: open_clip name, "clipself-mini", or an export folder such as a refined one."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    text_from: str | None = None
    """Release whose text tower is taken where a checkpoint has none."""
    split: Literal["ov-coco", "ov-lvis"] | None = None
    """Published split: OV-COCO's 48 base and 17 novel classes, or OV-LVIS' rare ones as novel."""
    base: Path | None = None
    """Text file of base names; with neither, all classes are base."""
    novel: Path | None = None
    """Text file of novel names: their boxes are dropped, their names stay out of the loss."""
    keep_empty: bool = False
    """Whether images without a base box are trained on; published recipes drop them."""
    detector: MethodSettings = field(default_factory=FViTSettings)
    """Which detector: its architecture, targets and scoring."""
    scales: tuple[float, float] = (0.1, 2.0)
    """Large-scale jitter; 1 1 turns it off."""
    flip: float = 0.5
    """Probability of a mirrored image."""
    views: int | None = None
    """Different jitters of an image; a new one each epoch if not given."""
    feature_cache: Path | None = None
    """Folder for the frozen backbone's features of every image and view; needs views, and one process."""
    epochs: float = 3.0
    """Passes over the images."""
    max_steps: int | None = None
    """Optimizer steps; takes the place of `epochs`."""
    batch_size: int = 8
    """Images of one process in a micro-batch."""
    accumulate: int = 1
    """Micro-batches of one optimizer step; batch norm sees each by itself."""
    lr: float = 1e-4
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What follows the warm-up."""
    drop_epochs: tuple[float, ...] = ()
    """Epochs at which a constant rate falls to a tenth."""
    weight_decay: float = 0.1
    """Decay of everything that learns, vectors and the temperature included, as published."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    warmup_steps: int = 250
    """Steps of the linear ramp; at most a tenth of the run is used."""
    clip_norm: float | None = 1.0
    """Largest norm of all gradients."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the forward pass; auto is bf16 where the device multiplies it natively, else fp32."""
    compile: bool = False
    """Compile the heads with torch.compile."""
    workers: int = 2
    """Processes that decode images; they change nothing but speed."""
    seed: int = 0
    """Seed of weights, order, jitter and sampling."""
    save_every: int = 500
    """Steps between training states; 0 saves only at the end."""
    evaluate_every: int = 0
    """Steps between evaluations; 0 for none."""
    evaluate_annotations: Path | None = None
    """Instances JSON for those evaluations."""
    evaluate_images: Path | None = None
    """Folder of its pictures."""
    evaluate_limit: int | None = 200
    """First images only, in those evaluations."""
    tensorboard: bool = False
    """Write TensorBoard events into the run's folder."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
    resume: bool = False
    """Continue the run in `out` where its last saved state ends."""
    overwrite: bool = False
    """Start anew in a folder that already holds a run."""

    def __post_init__(self) -> None:
        self.check_counts("batch_size", "accumulate")
        self.check_schedule(lr=self.lr, epochs=self.epochs, max_steps=self.max_steps)
        if self.split is not None and (self.base is not None or self.novel is not None):
            raise ValueError(f"split={self.split!r} already names base and novel classes; leave --base and --novel out")
        if self.feature_cache is not None and self.views is None:
            raise ValueError("feature_cache needs views=, the number of different jitters that it has to hold")
        if self.evaluate_every and (self.evaluate_annotations is None or self.evaluate_images is None):
            raise ValueError("evaluate_every needs evaluate_annotations and evaluate_images")


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionEvaluateConfig:
    """One evaluation of a trained detector."""

    detector: str
    """Folder that `detect train` wrote; "owlvit:NAME" takes a transformers checkpoint."""
    annotations: Path
    """COCO or LVIS instances JSON."""
    images: Path
    """Folder that its file names are relative to."""
    split: Literal["ov-coco", "ov-lvis"] | None = None
    """Published split."""
    base: Path | None = None
    """Text file of base names; with neither, what training saw is base and the file's other classes are novel."""
    novel: Path | None = None
    """Text file of novel names."""
    metric: Literal["auto", "coco", "lvis"] = "auto"
    """COCO's AP50 by group, or LVIS' federated AP by frequency; auto looks for negative lists in the file."""
    synonyms: Path | None = None
    """JSON of {name: another word for it}: the table once more with these, and what that costs."""
    more_names: Path | None = None
    """Text file of names that are not there: the table once more with them among the choices."""
    alpha: float | None = None
    """Another exponent of CLIP for base classes."""
    beta: float | None = None
    """Another exponent of CLIP for novel classes."""
    clip_temperature: float | None = None
    """Another factor of CLIP's cosine."""
    fusion: Literal["fvit", "fvlm", "single", "none"] | None = None
    """Another fusion of the two scores."""
    limit: int | None = None
    """First images only."""
    batch_size: int = 1
    """Images at once."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
    out: Path | None = None
    """Folder for the results in COCO's format and the table as JSON; nothing is written if not given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionPredictConfig:
    """Named things in pictures."""

    images: tuple[Path, ...]
    """Image files or folders of them."""
    detector: str
    """Folder that `detect train` wrote; "owlvit:NAME" takes a transformers checkpoint."""
    names: tuple[str, ...] = ()
    """What to look for; the names of training if not given."""
    out: Path = Path("detections")
    """Folder for annotated pictures and detections.json."""
    threshold: float = 0.1
    """Least score."""
    colours: Literal["novel", "class"] = "novel"
    """Novel red and base blue, or a colour for each class."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposalsConfig:
    """Class-free boxes of a folder of images, for `clipself distill --regions proposals`."""

    detector: Path
    """Folder that `detect train` wrote."""
    images: Path
    """Folder of images, any nesting, or the folder that the annotation's file names are relative to."""
    out: Path
    """Folder for proposals.json (COCO results) and images.json (the images they belong to)."""
    annotations: Path | None = None
    """COCO-style JSON that lists the images; the folder is read whole if not given."""
    most: int = 100
    """Proposals of an image."""
    threshold: float = 0.0
    """Least objectness."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
