"""Settings of the detection commands; free of heavy imports so that `--help` is quick."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from clipself.detection.detectors.settings import MethodSettings
from clipself.detection.detectors.table import make_settings
from clipself.engine.config import RunConfig, Settings
from clipself.renamed import old_names

__getattr__ = old_names(__name__)


def check_split_alone(split: str | None, base: Sequence[str] | None, novel: Sequence[str] | None) -> None:
    """Refuses a published split beside names of one's own.

    Raises:
        ValueError: Both are given.
    """
    if split is not None and (base is not None or novel is not None):
        raise ValueError(f"split={split!r} already names base and novel classes; leave --base and --novel out")


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionTrainConfig(RunConfig):
    """One training run of a detector on base classes."""

    annotations: Path
    """COCO or LVIS instances JSON to train on."""
    images: Path
    """Folder that its file names are relative to."""
    split: Literal["ov-coco", "ov-lvis"] | None = None
    """Published split: OV-COCO's 48 base and 17 novel classes, or OV-LVIS' rare ones as novel."""
    base: tuple[str, ...] | None = None
    """Base names: words, text files, or packaged vocabularies; with neither, all classes are base."""
    novel: tuple[str, ...] | None = None
    """Novel names, likewise: their boxes are dropped, their names stay out of the loss."""
    keep_empty: bool = False
    """Whether images without a base box are trained on; published recipes drop them."""
    repeat_below: float = 0.0
    """Share of the images below which a class is rare: images with rare classes are drawn more often, by the root of
    what they lack (LVIS: 0.001). An epoch is then as many draws; 0 sees each image once."""
    detector: MethodSettings = field(default_factory=make_settings)
    """Which detector: its architecture, targets and scoring."""
    start_from: Path | None = None
    """Detector folder whose weights the training begins with; its settings and CLIP must be these."""
    image_labels: Path | None = None
    """Pictures whose classes are known but not their boxes: a folder of one folder a class, COCO captions that are
    searched for names, or a COCO, LVIS or Detic list. Their names may be novel ones."""
    image_label_images: Path | None = None
    """Folder that the file names of that JSON are relative to."""
    image_label_names: tuple[str, ...] | None = None
    """Names that are learned from them: words, text files, or packaged vocabularies; all if not given, and for captions
    those of the annotations."""
    image_label_loss: Literal["max_size", "first", "max_score", "min_loss", "image"] = "max_size"
    """Which region a label speaks of: the largest proposal, the first, the one that scores highest, the one whose loss
    is least, or the whole image."""
    image_label_weight: float = 0.1
    """Weight of their loss."""
    image_label_ratio: float = 4.0
    """Images with labels to one with boxes."""
    image_label_batch: int | None = None
    """Images with labels of one process in a micro-batch of theirs; as many as the ratio says if not given, so that
    both kinds take turns."""
    image_label_scale: float = 0.5
    """Their side on the canvas, as a share of what images with boxes have."""
    image_label_captions: float = 0.0
    """Weight, beside the labels', of the captions themselves: the box of a whole image should mean its own caption and
    no other of the step."""
    image_label_caption_negatives: float = 0.125
    """Weight of the others."""
    image_label_proposals: int = 128
    """Best proposals of such an image that a label may speak of."""
    scales: tuple[float, float] = (0.1, 2.0)
    """Large-scale jitter; 1 1 turns it off."""
    mosaics: tuple[float, ...] = ()
    """Chances of 1, 2, 3, ... pictures a side of a canvas; one picture each if not given."""
    views: int | None = None
    """Different jitters of an image; a new one each epoch if not given."""
    feature_cache: Path | None = None
    """Folder for the frozen backbone's features of every image and view; needs views, and one process."""
    epochs: float = 3.0
    batch_size: int = 8
    """Images of one process in a micro-batch; batch norm sees each micro-batch by itself, over all processes."""
    lr: float = 1e-4
    schedule: Literal["cosine", "cosine-through", "constant", "poly"] = "constant"
    weight_decay: float = 0.1
    """Decay of everything that learns, vectors and the temperature included, as published."""
    warmup_steps: int = 250
    save_every: int = 500
    evaluate_limit: int | None = 200
    """First images only, in evaluations within the run."""

    def check(self) -> None:
        """Refuses what no such run can mean.

        Raises:
            ValueError: A setting is outside its range, or two exclude each other.
        """
        self.check_counts("views", "image_label_batch", "image_label_proposals")
        self.check_positive("image_label_ratio", "image_label_scale")
        self.check_not_negative("image_label_weight", "image_label_captions", "image_label_caption_negatives")
        self.check_at_most(1, "image_label_scale")
        if self.image_labels is None and (self.image_label_images is not None or self.image_label_names is not None):
            given = "image_label_images" if self.image_label_images is not None else "image_label_names"
            raise ValueError(f"{given} says more of image_labels, which are not given; pass image_labels too")
        check_split_alone(self.split, self.base, self.novel)
        self.check_shares("repeat_below")
        self.check_positive("scales")
        if self.scales[0] > self.scales[1]:
            raise ValueError(f"scales={self.scales} must ascend and be above 0; (1, 1) turns the jitter off")
        self.check_not_negative("mosaics")
        if self.mosaics and not sum(self.mosaics):
            raise ValueError(f"mosaics={self.mosaics} leave nothing to draw; one of the chances must be above 0")
        if self.feature_cache is not None and self.mosaics:
            raise ValueError("feature_cache keeps the features of single pictures; leave it or mosaics out")
        if self.feature_cache is not None and self.views is None:
            raise ValueError("feature_cache needs views=, the number of different jitters that it has to hold")
        self.check_evaluation_images()


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionEvaluateConfig(Settings):
    """One evaluation of a trained detector."""

    checkpoint: str
    """Folder that `detect train` wrote; "hf:NAME" takes an OWL-ViT, OWLv2 or Grounding DINO of transformers'
    hub;
    "clipself-mini-detector" is packaged."""
    annotations: Path
    """COCO or LVIS instances JSON."""
    images: Path
    """Folder that its file names are relative to."""
    split: Literal["ov-coco", "ov-lvis"] | None = None
    """Published split."""
    base: tuple[str, ...] | None = None
    """Base names: words, text files, or packaged vocabularies; with neither, what training saw is base and the file's
    other classes are novel."""
    novel: tuple[str, ...] | None = None
    """Novel names, likewise."""
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
    scoring: dict[str, float | int | str] = field(default_factory=dict)
    """Any other settings of the detector that need no training, as in `nms 0.5 max_detections 300`."""
    limit: int | None = None
    """First images only."""
    batch_size: int = 1
    """Images at once."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
    out: Path | None = None
    """Folder for the results in COCO's format and the table as JSON; nothing is written if not given."""

    def check(self) -> None:
        """Refuses what no evaluation can mean.

        Raises:
            ValueError: A setting is outside its range, or two exclude each other.
        """
        self.check_counts("limit", "batch_size")
        self.check_shares("alpha", "beta")
        self.check_positive("clip_temperature")
        check_split_alone(self.split, self.base, self.novel)


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionPredictConfig(Settings):
    """Named things in pictures."""

    images: Annotated[tuple[Path, ...], Positional]
    """Image files or folders of them."""
    checkpoint: str = "clipself-mini-detector"
    """Folder that `detect train` wrote; "hf:NAME" takes an OWL-ViT, OWLv2 or Grounding DINO of transformers'
    hub. The packaged one was trained on generated scenes at 320 px: good for a first look."""
    names: tuple[str, ...] = ()
    """What to look for: words, a text file or a packaged vocabulary; the names of training if there are no examples
    either."""
    examples: Path | None = None
    """What to look for by its looks, beside `names` or in place of their words: a folder that holds a folder for each
    thing, called as the thing is, with pictures that show it, closely cut; or labels, with `example_images`."""
    example_images: Path | None = None
    """Folder of the pictures of `examples` that are labels: their boxes or masks are the examples."""
    out: Path = Path("detections")
    """Folder for drawings (`pictures/`), `results.json` and `coco.json`."""
    threshold: float = 0.1
    """Least score."""
    colours: Literal["novel", "class"] = "novel"
    """Novel red and base blue, or a colour for each class."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_shares("threshold")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposalsConfig(Settings):
    """Class-free boxes of a folder of images, for `clipself distill --regions proposals`."""

    images: Path
    """Folder of images, any nesting, or the folder that the annotation's file names are relative to."""
    out: Path
    """Folder for proposals.json (COCO results) and images.json (the images they belong to)."""
    checkpoint: str = "clipself-mini-detector"
    """Folder that `detect train` wrote, or the packaged detector."""
    annotations: Path | None = None
    """COCO-style JSON that lists the images; the folder is read whole if not given."""
    most: int = 100
    """Proposals of an image."""
    threshold: float = 0.0
    """Least objectness."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_shares("threshold")
        self.check_counts("most")


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoBoxesConfig(Settings):
    """Boxes of a trained detector as annotations to train on."""

    checkpoint: str
    """Folder that `detect train` wrote; "hf:NAME" takes an OWL-ViT, OWLv2 or Grounding DINO of transformers'
    hub."""
    images: Path
    """Folder of images, any nesting, or the folder that the annotation's file names are relative to."""
    out: Path
    """Instances JSON to write."""
    annotations: Path | None = None
    """Instances JSON with true boxes, which are kept; the folder is read whole if not given."""
    names: tuple[str, ...] = ()
    """What to look for: words, a text file or a packaged vocabulary; the names of training if not given."""
    tags: Path | None = None
    """JSON of {file name: tags}: of each picture only its tags are kept, and a picture without any is passed over."""
    distractors: int = 0
    """Other names that a picture's tags must win against, drawn from `names`."""
    threshold: float = 0.2
    """Least score."""
    overlap: float = 0.5
    """IoU with any true box from which a pseudo box is dropped."""
    seed: int = 0
    """Seed of the distractors."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_not_negative("threshold", "distractors", "seed")
        self.check_shares("overlap")
