"""Settings of the region prompt's commands; free of heavy imports so that `--help` is quick."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from clipself.detection.config import check_split_alone
from clipself.engine.config import MOST_WORKERS, RunConfig, Settings
from clipself.engine.fields import UNSET

SIDES: Final = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
"""Short sides of training, as in DETR."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionSettings(Settings):
    """How a CLIP is shown boxes and told names; the defaults are the released ones of CORA's region branch."""

    templates: str = "imagenet"
    """Sentences around the names: detection, imagenet, simple, or a text file with one sentence a line."""
    text_length: int = 25
    """Tokens after which a sentence is cut."""
    temperature: float = 100.0
    """Factor of the cosine."""
    readout: str = "value"
    """How the last block of a transformer, which has no attention pool, becomes the dense map of its regions."""
    short_side: int = 800
    """Short side of a picture, in pixels."""
    longest_side: int = 1333
    """Limit of its long side, in pixels."""

    @property
    def spoken(self) -> Mapping[str, Any]:
        """How names become sentences: keywords of `make_vocabulary`."""
        return {"templates": self.templates, "wording": "spaced", "longest": self.text_length}

    def check(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            ValueError: A setting is outside its range.
        """
        self.check_counts("text_length")
        self.check_positive("temperature")
        self.check_sizes("short_side", "longest_side")


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptTrainConfig(RunConfig):
    """One training of a region prompt on base classes."""

    annotations: Path
    """COCO or LVIS instances JSON to train on."""
    images: Path
    """Folder that its file names are relative to."""
    model: str = "RN50"
    """The CLIP, whose image tower must pool by attention: open_clip name of one of OpenAI's ResNets, or a folder."""
    split: Literal["ov-coco", "ov-lvis"] | None = None
    """Published split: OV-COCO's 48 base and 17 novel classes, or OV-LVIS' rare ones as novel."""
    base: tuple[str, ...] | None = None
    """Base names: words, text files, or packaged vocabularies; with neither, all classes are base."""
    novel: tuple[str, ...] | None = None
    """Novel names, likewise: their boxes are dropped, and no box is told apart from them."""
    keep_empty: bool = False
    """Whether pictures without a base box are read; they teach nothing here."""
    regions: RegionSettings = field(default_factory=RegionSettings)
    """How the CLIP is shown boxes and told names."""
    short_sides: tuple[int, ...] = SIDES
    """Short sides of training, one of them for each view."""
    crop: float = 0.5
    """Share of views that are cut out of a picture first, as DETR does."""
    epochs: float = 5.0
    batch_size: int = 4
    lr: float = 1e-4
    schedule: Literal["cosine", "cosine-through", "constant", "poly"] = "constant"
    weight_decay: float = 1e-4
    """Decay of the table, too."""
    warmup_steps: int = 0
    clip_norm: float | None = 0.1
    save_every: int = 500

    def check(self) -> None:
        """Refuses what no such run can mean.

        Raises:
            ValueError: A setting is outside its range, or two exclude each other.
        """
        check_split_alone(self.split, self.base, self.novel)
        self.check_sizes("short_sides")
        self.check_shares("crop")
        self.check_evaluation_images()


@dataclass(frozen=True, kw_only=True, slots=True)
class RelabelConfig(Settings):
    """Boxes of base classes renamed by what a CLIP takes them for: CORA's CLIP-aligned labels."""

    annotations: Path
    """COCO or LVIS instances JSON."""
    images: Path
    """Folder that its file names are relative to."""
    out: Path
    """File to write: the same, with other category ids."""
    model: str = "RN50"
    """The CLIP: open_clip name, "clipself-mini", or an export folder; without an attention pool, by its dense map."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    text_from: str | None = None
    """Release whose text tower is taken where a checkpoint has none."""
    prompt: Path | None = None
    """Region prompt that `detect prompt` wrote; the CLIP's own positions if not given."""
    split: Literal["ov-coco", "ov-lvis"] | None = None
    """Published split."""
    base: tuple[str, ...] | None = None
    """Base names: words, text files, or packaged vocabularies; with neither, all classes are base."""
    novel: tuple[str, ...] | None = None
    """Novel names, likewise: their boxes stay as they are, and no box is named after them."""
    regions: RegionSettings = field(default_factory=RegionSettings)
    """How the CLIP is shown boxes and told names."""
    batch_size: int = 4
    """Pictures at once."""
    workers: int = 2
    """Processes that read pictures."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            ValueError: A setting is outside its range, or two exclude each other.
        """
        check_split_alone(self.split, self.base, self.novel)
        self.check_counts("batch_size")
        self.check_not_negative("workers")
        self.check_at_most(MOST_WORKERS, "workers")


def ov_coco_rn50() -> PromptTrainConfig:
    """CORA's region prompt on OV-COCO: 102,400 numbers, 5 epochs with a drop after 4, 4 processes of 4 images."""
    return PromptTrainConfig(
        annotations=UNSET, images=UNSET, out=UNSET, pretrained="openai", split="ov-coco", drop_epochs=(4,),
        precision="fp32", workers=8, seed=42,
    )  # fmt: skip


def ov_coco_rn50x4() -> PromptTrainConfig:
    """The same on RN50x4: 209,920 numbers."""
    return replace(ov_coco_rn50(), model="RN50x4")


def ov_lvis_rn50x4() -> PromptTrainConfig:
    """On OV-LVIS: 10 epochs with a drop after 8."""
    return replace(ov_coco_rn50x4(), split="ov-lvis", epochs=10, drop_epochs=(8,))


PROMPT_RECIPES: Final[Mapping[str, Callable[[], PromptTrainConfig]]] = {
    "ov-coco-rn50": ov_coco_rn50,
    "ov-coco-rn50x4": ov_coco_rn50x4,
    "ov-lvis-rn50x4": ov_lvis_rn50x4,
}
"""Published settings by name."""
