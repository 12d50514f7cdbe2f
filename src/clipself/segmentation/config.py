"""Settings of training, evaluation and prediction; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from tyro.conf import Positional

from clipself.backbones.packaged import REFINED
from clipself.engine.config import RunConfig, Settings
from clipself.renamed import old_names
from clipself.segmentation.segmenters import make_settings
from clipself.segmentation.settings import Mode, SegmenterSettings

__getattr__ = old_names(__name__)

READOUTS: Final = ("maskclip", "sclip", "clearclip", "naclip")
"""Rows of the table without training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationTrainConfig(RunConfig):
    """One training run of a segmenter on a dense CLIP."""

    annotations: Path
    """COCO panoptic JSON, a folder of `clipself data prepare`, or a folder with images/, labels/ and names.txt."""
    images: Path | None = None
    """Folder of the pictures, for a JSON."""
    base: tuple[str, ...] | None = None
    """Classes to learn from (words, text files, or packaged vocabularies); pixels of others are ignored. All of them if
    not given."""
    novel: tuple[str, ...] | None = None
    """Classes that are withheld, likewise; their pixels are ignored."""
    segmenter: SegmenterSettings = field(default_factory=make_settings)
    """Which segmenter: how it is built, what of it learns, by which loss."""
    crop: int = 320
    """Side of the training crops, in pixels."""
    shortest: tuple[int, ...] = (320,)
    """Shortest sides that pictures are brought to ahead of the crop; one is drawn."""
    colour: bool = True
    """Whether colours are changed by chance."""
    max_steps: int | None = 400
    """Optimizer steps; epochs count where it is None."""
    weight_decay: float = 1e-4
    """Decay of everything but norms and embeddings."""
    warmup_steps: int = 0
    """Steps of the linear ramp."""
    exact_warmup: bool = True
    """Take `warmup_steps` as it is, however short the run."""
    clip_norm: float | None = 0.01
    """Largest norm of all gradients; unlimited if not given."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Number format of the forward pass."""
    workers: int = 1
    """Processes that decode and cut pictures; they change nothing but speed."""
    evaluate_limit: int | None = 50
    """First pictures of it only."""

    def check(self) -> None:
        """Refuses what no run can mean.

        Raises:
            ValueError: A size is below 1, or base and novel classes are both given.
        """
        self.check_sizes("crop", "shortest")
        if not self.shortest:
            raise ValueError("shortest must hold at least one side, in pixels")
        if self.base is not None and self.novel is not None:
            raise ValueError("base names what is learnt, novel what is withheld; choose one of them")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationEvaluateConfig(Settings):
    """mIoU of trained segmenters on a labelled set, by its own names."""

    checkpoint: tuple[Path, ...]
    """Folders that `clipself segment train` has written; several are compared."""
    annotations: Path
    """COCO panoptic JSON, a folder of `clipself data prepare`, or a folder with images/, labels/ and names.txt."""
    images: Path | None = None
    """Folder of the pictures, for a JSON."""
    mode: Mode = "sliding"
    """Windows and the whole averaged, as published, or one pass, for segmenters that know both."""
    canvas: int | None = None
    """Side of the square that windows slide over; 640 for crops of 384 and in proportion if not given."""
    class_cap: int | None = None
    """Most classes looked at for each view; 256 is what the published CAT-Seg does."""
    shortest: int | None = None
    """Shortest side that pictures are brought to; that of the segmenter's training if not given."""
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

    def check(self) -> None:
        """Refuses what nothing can be evaluated by.

        Raises:
            ValueError: There is no checkpoint, or a number is below 1.
        """
        self.check_counts("limit", "class_cap")
        self.check_sizes("canvas", "shortest")
        if not self.checkpoint:
            raise ValueError("there is nothing to evaluate; pass folders that `segment train` has written")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationTableConfig(Settings):
    """Segmentation without training: every readout on every model, one table."""

    annotations: Path
    """COCO panoptic JSON, a folder of `clipself data prepare`, or a folder with images/, labels/ and names.txt."""
    images: Path | None = None
    """Folder of the pictures, for a JSON."""
    model: tuple[str, ...] = ("clipself-mini",)
    """open_clip names, "clipself-mini", or export folders, raw and refined."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    text_from: str | None = None
    """Release whose text tower is taken where a checkpoint has none."""
    readouts: tuple[str, ...] = READOUTS
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
    novel: tuple[str, ...] | None = None
    """Classes that are scored as a group of their own: words, text files, or packaged vocabularies."""
    limit: int | None = None
    """First images only."""
    out: Path | None = None
    """Folder for the JSON and panels of the first images."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses what makes no table.

        Raises:
            ValueError: There is no model or readout, or a number is below 1.
        """
        self.check_counts("limit")
        self.check_sizes("shortest", "window", "stride")
        self.check_shares("threshold")
        if not self.model or not self.readouts:
            raise ValueError("a table needs at least one model and one readout")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationPredictConfig(Settings):
    """Names every pixel of pictures and draws it."""

    images: Annotated[tuple[Path, ...], Positional]
    """Picture files, or folders of them."""
    checkpoint: Path | None = None
    """Folder that `clipself segment train` has written."""
    model: str = REFINED
    """Without a checkpoint: any CLIP, which is read without training."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    text_from: str | None = None
    """Release whose text tower is taken where a checkpoint has none."""
    names: tuple[str, ...] = ()
    """Class names, a text file of one a line, or a packaged vocabulary; those of training if not given."""
    examples: Path | None = None
    """What to look for by its looks, beside `names` or in place of their words: a folder that holds a folder for each
    thing, called as the thing is, with pictures that show it, closely cut; or labels, with `example_images`."""
    example_images: Path | None = None
    """Folder of the pictures of `examples` that are labels: their boxes or masks are the examples."""
    readout: str | None = None
    """Without training: how the last block becomes a dense map; what the model was refined with, else "value"."""
    templates: str = "imagenet"
    """Without training: sentences around the names."""
    out: Path = Path("segments")
    """Folder for pictures/, maps/, results.json and coco.json."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
