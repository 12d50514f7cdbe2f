"""Settings of the panoptic commands; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from clipself.backbones.packaged import REFINED
from clipself.engine.config import RunConfig, Settings
from clipself.panoptic.generators.learned import make_settings
from clipself.panoptic.settings import (
    JudgeSettings,
    MaskGeneratorSettings,
    MaskLossSettings,
    Rules,
    Scores,
    check_sources,
)
from clipself.renamed import old_names

__getattr__ = old_names(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticTrainConfig(RunConfig):
    """Trains a mask generator of our own: FC-CLIP's or ODISE's decoders on frozen features."""

    annotations: Path
    """COCO or ADE20K panoptic JSON, its PNGs in the folder beside it."""
    images: Path
    """Folder of the pictures."""
    segments: Path | None = None
    """Folder of the PNGs where it is elsewhere."""
    novel: tuple[str, ...] | None = None
    """Classes that stay unseen (words, text files, or packaged vocabularies): pictures that hold one are left out."""
    captions: Path | None = None
    """COCO captions JSON of these pictures, for a generator that learns classes from captions."""
    generator: MaskGeneratorSettings = field(default_factory=make_settings)
    """Which generator is trained, and its shape."""
    loss: MaskLossSettings = field(default_factory=MaskLossSettings)
    """What it is trained by."""
    jitter: tuple[float, float] = (0.8, 1.5)
    """Bounds of the random scale of a picture; (0.1, 2.0) as published."""
    epochs: float = 12.0
    """Passes over the pictures."""
    lr: float = 5e-4
    """Peak learning rate of AdamW."""
    warmup_steps: int = 50
    """Steps of the linear ramp; at most a tenth of the run is used."""

    def check(self) -> None:
        """Refuses what no training of masks can mean.

        Raises:
            ValueError: The scales are none, or an evaluation lacks its pictures.
        """
        self.check_positive("jitter")
        if self.jitter[0] > self.jitter[1]:
            raise ValueError(f"jitter={self.jitter} must be two scales above 0, the smaller one first")
        self.check_evaluation_images()
        if (self.captions is not None) != (getattr(self.generator, "supervision", "label") == "caption"):
            raise ValueError(
                f"captions={self.captions}: a generator with supervision='caption' (method odise) learns from a COCO "
                "captions file, and no other does"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticConfig(Settings):
    """What evaluating and predicting share."""

    checkpoint: str | None = None
    """What finds masks: a folder that `panoptic train` wrote, or "hf:NAME" for a Mask2Former or MaskFormer of
    transformers, hub name or folder. Without it and masks, the packaged "clipself-mini-masks", trained on generated
    scenes at 256 px: good for a first look."""
    masks: Path | None = None
    """Masks made elsewhere, in its place: a panoptic JSON, a list of run lengths, or a folder of such lists."""
    scores: tuple[Scores, ...] = ("clip",)
    """Class scores: "clip" alone, "generator" alone, "both" (FC-CLIP's shares), "both-odise" or "both-odise-caption"
    (those of ODISE's two models)."""
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    """How the CLIP judges masks."""
    rules: Rules = field(default_factory=Rules)
    """From masks to maps."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    text_from: str | None = None
    """Release whose text tower is taken where a checkpoint has none."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses two sources of masks.

        Raises:
            ValueError: Masks come from two places.
        """
        check_sources(self.checkpoint, self.masks)


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticEvaluateConfig(PanopticConfig):
    """PQ, mask AP, mIoU and mask accuracy of each model with each way of scoring."""

    annotations: Path
    """COCO or ADE20K panoptic JSON, its PNGs in the folder beside it."""
    images: Path
    """Folder of the pictures."""
    segments: Path | None = None
    """Folder of the PNGs where it is elsewhere."""
    model: tuple[str, ...] = ("clipself-mini",)
    """CLIPs that judge, one or several: open_clip names, "clipself-mini", or export folders; masks stay the same."""
    limit: int | None = None
    """First pictures only."""
    out: Path | None = None
    """Folder for the JSON, the predictions in COCO's format, and pictures."""
    pictures: int = 6
    """How many pictures to draw there."""

    def check(self) -> None:
        """Refuses evaluations of nothing.

        Raises:
            ValueError: The limit is below 1, or there are no scores.
        """
        if not self.scores:
            raise ValueError("nothing would be scored; name at least one of the scores")
        self.check_counts("limit")
        self.check_not_negative("pictures")


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticPredictConfig(PanopticConfig):
    """Segments pictures by names given here; writes panoptic PNGs, JSON and drawings."""

    images: Annotated[tuple[Path, ...], Positional]
    """Picture files or folders of them."""
    names: tuple[str, ...] = ()
    """What to look for: words, a text file with one class a line, or a packaged vocabulary, which knows its stuff.
    Where there are semicolons, they separate classes and commas separate synonyms."""
    stuff: tuple[str, ...] = ()
    """Names that are uncountable, such as grass and sky, likewise; one that `names` lacks is looked for too."""
    examples: Path | None = None
    """What to look for by its looks, beside `names` or in place of their words: a folder that holds a folder for each
    thing, called as the thing is, with pictures that show it, closely cut; or labels, with `example_images`."""
    example_images: Path | None = None
    """Folder of the pictures of `examples` that are labels: their boxes or masks are the examples."""
    out: Path = Path("panoptic")
    """Folder to write."""
    model: str = REFINED
    """The CLIP that judges: open_clip name, "clipself-mini", or an export folder."""
    scores: tuple[Scores, ...] = ()
    """Class scores: "clip" alone, "generator" alone, "both" (FC-CLIP's shares), "both-odise" or "both-odise-caption"
    (those of ODISE's two models). If not given, both where the masks come with a generator that knows classes, else the
    CLIP's."""

    def check(self) -> None:
        """Refuses several ways of scoring.

        Raises:
            ValueError: There are several.
        """
        if len(self.scores) > 1:
            raise ValueError(f"scores={self.scores}: one way of scoring makes one answer; name one of them")
