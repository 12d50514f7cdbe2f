"""Settings of training, evaluation and prediction; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from clipself.engine.settings import RunSettings
from clipself.renamed import old_names

__getattr__ = old_names(__name__)

METHODS: Final = ("maskclip", "sclip", "clearclip", "naclip")
"""Training-free rows, by the readout that each is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationTrainConfig(RunSettings):
    """One training run of CAT-Seg (arXiv:2303.11797) or SAN (arXiv:2302.12242) on a dense CLIP."""

    data: Path
    """COCO panoptic JSON, a folder of `clipself data prepare`, or a folder with images/, labels/ and names.txt."""
    out: Path
    """Folder of the run: settings, log, metrics, training state, the model."""
    images: Path | None = None
    """Folder of the pictures, for a JSON."""
    seen: Path | None = None
    """Text file of the classes to learn from, one a line; pixels of others are ignored. All of them if not given."""
    method: Literal["catseg", "san"] = "catseg"
    """Which model."""
    model: str = "clipself-mini"
    """open_clip name, "clipself-mini", or an export folder, raw or refined."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    release: Literal[1, 2] = 2
    """CAT-Seg: 2 is guided by CLIP, 1 (which CLIPSelf used) by a ResNet-101 beside it."""
    appearance: Path | None = None
    """CAT-Seg release 1: weights of the ResNet-101, torchvision's names; random if not given."""
    train_clip: Literal["queries-values", "visual-attention", "none"] = "none"
    """CAT-Seg: which weights of CLIP learn, at a hundredth of the rate; releases 2 and 1 learn the first two."""
    readout: str | None = None
    """CAT-Seg: how CLIP's last block becomes the map whose cosines are refined; the release's own if not given. A
    backbone refined by CLIPSelf wants "value", which it was refined with."""
    hidden: int | None = None
    """CAT-Seg: width of a cost embedding; the published 128 if not given, the decoder in proportion."""
    cost_gain: float = 1.0
    """CAT-Seg: new weights of the cost embedding are multiplied by it; cosines differ little, so that short runs learn
    sooner with a gain of about 10."""
    class_prior: float = 0.5
    """CAT-Seg: share of the pixels that new weights give to each class; one over the classes of a step spares a short
    run its first steps."""
    side_width: int | None = None
    """SAN: width of the side network; the published 240 if not given."""
    queries: int | None = None
    """SAN: masks proposed; the published 100 if not given."""
    clip_scale: float | None = None
    """SAN: side of CLIP's input over that of the picture; the published 0.5 (0.7 for patches of 14) if not given."""
    logit_scale: float | None = None
    """SAN: factor of the cosines of masks and names; the published 100 if not given, that of OpenAI's CLIPs."""
    learn_positions: bool = True
    """SAN: whether CLIP's position table learns, as published; without it the backward pass is shorter."""
    image_size: int | None = None
    """CAT-Seg: side of the square that CLIP sees, in pixels; 24 patches if not given."""
    crop: int = 320
    """Side of the training crops, in pixels."""
    shortest: tuple[int, ...] = (320,)
    """Shortest sides that pictures are brought to ahead of the crop; one is drawn."""
    flip: float = 0.5
    """Probability of a mirrored picture."""
    colour: bool = True
    """Whether colours are changed by chance."""
    classes_per_step: int | None = None
    """CAT-Seg: classes looked at in a step: those of the batch, filled up by chance. All of them if not given."""
    ignored: Literal["masked", "negative"] = "masked"
    """CAT-Seg: unlabelled pixels are left out; "negative" counts them against every class, as the release does."""
    num_points: int = 12544
    """SAN: points of a mask in matching and loss."""
    max_steps: int = 400
    """Optimizer steps."""
    batch_size: int = 4
    """Pictures of one process in a micro-batch."""
    accumulate: int = 1
    """Micro-batches of one optimizer step."""
    lr: float = 2e-4
    """Peak learning rate of AdamW."""
    weight_decay: float = 1e-4
    """Decay of everything but norms and embeddings."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    """How the rate falls."""
    warmup_steps: int = 0
    """Steps of the linear ramp."""
    clip_norm: float = 0.01
    """Largest norm of all gradients."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Number format of the forward pass."""
    workers: int = 1
    """Processes that decode and cut pictures; they change nothing but speed."""
    seed: int = 0
    """Seed of order, crops, new weights and sampled classes."""
    save_every: int = 200
    """Steps between training states; 0 saves only at the end."""
    evaluate_every: int = 0
    """Steps between evaluations; 0 for none."""
    evaluate_data: Path | None = None
    """Labelled set for those evaluations."""
    evaluate_images: Path | None = None
    """Folder of its pictures, for a JSON."""
    evaluate_limit: int | None = 50
    """First images of it only."""
    tensorboard: bool = False
    """Write TensorBoard events into the run's folder."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
    resume: bool = False
    """Continue the run in `out` where its last saved state ends."""
    overwrite: bool = False
    """Start anew in a folder that already holds a run."""

    def __post_init__(self) -> None:
        self.check_counts("crop", "max_steps", "batch_size", "accumulate")
        if self.classes_per_step is not None and self.classes_per_step < 2:
            raise ValueError(f"classes_per_step={self.classes_per_step} leaves nothing to tell apart; use at least 2")
        if not 0.0 < self.class_prior < 1.0:
            raise ValueError(f"class_prior={self.class_prior} is not in (0, 1); it is a share of the pixels")
        if self.evaluate_every and self.evaluate_data is None:
            raise ValueError("evaluate_every needs evaluate_data (and evaluate_images for a JSON)")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationEvaluateConfig:
    """mIoU of trained segmenters on a labelled set, by its own names."""

    models: tuple[Path, ...]
    """Folders that `clipself segment train` has written; several are compared."""
    data: Path
    """COCO panoptic JSON, a folder of `clipself data prepare`, or a folder with images/, labels/ and names.txt."""
    images: Path | None = None
    """Folder of the pictures, for a JSON."""
    mode: Literal["sliding", "whole"] = "sliding"
    """CAT-Seg: windows and the whole averaged, as published, or one pass."""
    canvas: int | None = None
    """CAT-Seg: side of the square that windows slide over; 640 for crops of 384 and in proportion if not given."""
    class_cap: int | None = None
    """CAT-Seg: most classes looked at for each view; 256 is what the published code does."""
    shortest: int | None = None
    """Shortest side that pictures are brought to; twice the training crop (CAT-Seg) or the crop (SAN) if not given."""
    limit: int | None = None
    """First images only."""
    out: Path | None = None
    """Folder for the JSON, panels of the first images and, where asked for, the predictions."""
    save_maps: bool = False
    """Whether every prediction is written as an index PNG."""
    per_class: bool = False
    """Whether the table shows every class."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationTableConfig:
    """Segmentation without training: every readout on every model, one table."""

    data: Path
    """COCO panoptic JSON, a folder of `clipself data prepare`, or a folder with images/, labels/ and names.txt."""
    images: Path | None = None
    """Folder of the pictures, for a JSON."""
    models: tuple[str, ...] = ("clipself-mini",)
    """open_clip names, "clipself-mini", or export folders, raw and refined."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    methods: tuple[str, ...] = METHODS
    """Readouts, a row each."""
    templates: str = "imagenet"
    """Sentences around the names."""
    shortest: int = 336
    """Shortest side that pictures are brought to, in pixels."""
    window: int = 224
    """Side of a window."""
    stride: int = 112
    """Step from window to window."""
    threshold: float = 0.0
    """Best probability below which a pixel is background; 0 for sets without a background class."""
    unseen: Path | None = None
    """Text file of classes that are scored as a group of their own."""
    limit: int | None = None
    """First images only."""
    out: Path | None = None
    """Folder for the JSON and panels of the first images."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationPredictConfig:
    """Names every pixel of pictures and draws it."""

    images: tuple[Path, ...]
    """Picture files, or folders of them."""
    model: str = "clipself-mini"
    """Folder that `clipself segment train` has written; or any CLIP, which is then read without training."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    names: str | None = None
    """Class names with commas between them, or a text file, one a line; those of training if not given."""
    readout: str = "clearclip"
    """Without training: how the last block becomes a dense map."""
    out: Path = Path("segments")
    """Folder for overlays, index PNGs and results.json."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
