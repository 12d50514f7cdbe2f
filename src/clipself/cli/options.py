"""Options of the commands that are no family's; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from clipself.engine.config import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickstartOptions(Settings):
    """Refines the packaged small CLIP on pictures without labels and leaves a report."""

    out: Path = Path("report")
    """Folder to write."""
    model: str = "clipself-mini"
    """Packaged model or export folder."""
    scenes: int = 300
    """Generated scenes to distil on; their labels are not used."""
    held_out: int = 60
    """Scenes of another seed to measure on."""
    steps: int = 240
    """Optimizer steps."""
    seed: int = 0
    """Seed of the run."""

    def check(self) -> None:
        """Refuses what makes no report.

        Raises:
            ValueError: There is no scene or step, or the seed is negative.
        """
        self.check_counts("scenes", "held_out", "steps")
        self.check_not_negative("seed")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowOptions(Settings):
    """What is drawn, and how."""

    model: str = "clipself-mini"
    """open_clip name, "clipself-mini", or an export folder."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    refined: Path | None = None
    """Export folder of a refined model for a column of its own."""
    image_size: int | None = None
    """Longest side that the models see, in pixels; the aspect is kept. What the last of them was refined at if not
    given, else the published 1024 (a small model at twice its own)."""
    readout: str | None = None
    """How the last block becomes a dense map; what each model was refined with if not given, else "value"."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses sizes that no picture has.

        Raises:
            ValueError: The size is outside its range.
        """
        self.check_sizes("image_size")


@dataclass(frozen=True, kw_only=True, slots=True)
class KmeansOptions(ShowOptions):
    """Groups of the dense map in matching colours: image | original | refined."""

    images: Annotated[tuple[Path, ...], Positional]
    """Picture files or folders of them."""
    out: Path = Path("kmeans.png")
    """PNG to write."""
    clusters: int = 6
    """Groups of each map."""

    def check(self) -> None:
        """Refuses maps without groups.

        Raises:
            ValueError: There is no group.
        """
        self.check_counts("clusters")


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryOptions(ShowOptions):
    """How near each patch is to a text: image | original | refined."""

    text: Annotated[str, Positional]
    """Any phrase, such as "a cat"."""
    images: Annotated[tuple[Path, ...], Positional]
    """Picture files or folders of them."""
    out: Path = Path("query.png")
    """PNG to write."""
    templates: str = "simple"
    """Sentences around the text: simple, detection, imagenet, or a text file."""
    examples: Path | None = None
    """Pictures of the thing that the text names, in place of the words: a folder that holds a folder for each thing,
    called as the thing is; or labels, with `example_images`."""
    example_images: Path | None = None
    """Folder of the pictures of `examples` that are labels: their boxes or masks are the examples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelsOptions(Settings):
    """What works with which model, and why something does not."""

    names: Annotated[tuple[str, ...], Positional] = ()
    """Names, or parts of them; all if not given."""
    json: bool = False
    """Whether to print JSON, one object a name, instead of a table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlendOptions(Settings):
    """alpha * student + (1 - alpha) * original, for one alpha or a sweep."""

    student: Path
    """Export folder of the refined model."""
    out: Path
    """Folder to write; a sweep writes one folder an alpha below it."""
    original: str = "clipself-mini"
    """open_clip name, "clipself-mini", or export folder of the model it started from."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named original."""
    alphas: tuple[float, ...] = (0.7,)
    """Shares of the student, each in [0, 1]."""

    def check(self) -> None:
        """Refuses what is no share.

        Raises:
            ValueError: An alpha is outside [0, 1], or there is none.
        """
        self.check_shares("alphas")
        if not self.alphas:
            raise ValueError("alphas must hold at least one share of the student")


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertOptions(Settings):
    """Writes any checkpoint that can be loaded as a folder that stock open_clip reads."""

    model: str
    """open_clip or EVA-CLIP name, "clipself-mini", or an export folder."""
    out: Path
    """Folder to write."""
    pretrained: str | None = None
    """open_clip tag, or file of an OpenAI, open_clip, EVA-CLIP or CLIPSelf release."""
    text_from: str | None = None
    """Release whose text tower is taken."""
    ignore: tuple[str, ...] = ()
    """Names or prefixes of tensors in the file that may be left out."""
    quick_gelu: bool | None = None
    """Whether the activation is QuickGELU, where the file does not say so: what began as OpenAI's weights has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitOptions(Settings):
    """Writes the open-vocabulary split of an official instances file."""

    annotations: Path
    """Official instances JSON."""
    out: Path
    """File to write."""
    part: Literal["train", "val"] = "train"
    """Base boxes only, or base and novel ones."""
    split: Literal["ov-coco", "ov-lvis"] | None = None
    """Published split; ov-coco where neither base nor novel is given."""
    base: tuple[str, ...] | None = None
    """Base names: words, text files, or packaged vocabularies."""
    novel: tuple[str, ...] | None = None
    """Novel names, likewise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorImportOptions(Settings):
    """Writes a released checkpoint as a detector folder."""

    weights: Path
    """The released file."""
    out: Path
    """Folder to write."""
    recipe: Literal[
        "ov-coco-b16",
        "ov-coco-l14",
        "ov-lvis-b16",
        "ov-coco-cora-rn50",
        "ov-coco-cora-rn50x4",
        "ov-coco-ovdetr",
        "ov-coco-detic",
        "ov-coco-detic-boxes",
        "ov-lvis-detic-r50",
        "ov-lvis-detic-swin-b",
        "ov-lvis-l14",
        "lvis-owl-b16",
        "lvis-owl-b32",
        "lvis-owl-l14",
        "ov-coco-rovit",
        "ov-coco-cfm",
        "ov-coco-dito-l16",
    ] = "ov-coco-b16"
    """Configuration that the file belongs to; it says which detector it is."""
    pretrained: str | None = None
    """Tag or file of the backbone's release, for its text tower; the recipe's if not given."""
    text_from: str | None = None
    """Release of the text tower, where that file holds none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmenterImportOptions(Settings):
    """Writes a released CAT-Seg or SAN checkpoint as a segmenter folder."""

    weights: Path
    """The released file."""
    out: Path
    """Folder to write."""
    method: Literal["catseg", "san"] = "catseg"
    """Whose checkpoint it is."""
    names: tuple[str, ...] = ("coco_stuff_171",)
    """Classes of its training: words, a text file, or a packaged vocabulary."""
    crop: int | None = None
    """Side of its training crops, in pixels; the published one if not given."""

    def check(self) -> None:
        """Refuses crops that no picture has.

        Raises:
            ValueError: The side is outside its range.
        """
        self.check_sizes("crop")


@dataclass(frozen=True, kw_only=True, slots=True)
class MasksImportOptions(Settings):
    """Writes a released FC-CLIP or ODISE checkpoint as a folder of masks."""

    weights: Annotated[Path, Positional]
    """The released file."""
    out: Path
    """Folder to write."""
    system: Annotated[Literal["fcclip", "odise"], arg(name="as")] = "fcclip"
    """Whose checkpoint it is."""
    model: str | None = None
    """FC-CLIP: open_clip name of the CLIP inside, one of OpenAI's ResNets (RN50-quickgelu if not given). ODISE: the
    CLIP that captions and names pictures, open_clip name or export folder (ViT-L-14-336 of OpenAI if not given)."""
    pretrained: str | None = None
    """ODISE: open_clip tag or file of a named model."""
    diffusion: str | None = None
    """ODISE: its frozen diffusion model in diffusers' layout, hub name or folder; CompVis/stable-diffusion-v1-3, as
    published, if not given."""
    image_size: int | None = None
    """Longest side of the input, in pixels, of ODISE's the shortest; as published if not given: FC-CLIP sees a shortest
    side of 800 and a longest of at most 1333, ODISE a shortest of 1024 and a longest of at most 2560."""

    def check(self) -> None:
        """Refuses sizes that no picture has, and a diffusion model for FC-CLIP.

        Raises:
            ValueError: The size is outside its range, or FC-CLIP is given what it has in its own file.
        """
        self.check_sizes("image_size")
        if self.system == "fcclip" and (self.diffusion is not None or self.pretrained is not None):
            raise ValueError("a released FC-CLIP holds its own CLIP and no diffusion model; leave out what names them")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareOptions(Settings):
    """Converts an official archive of semantic segmentation."""

    archive: Annotated[str, Positional]
    """Which one; see above."""
    root: Path
    """Where it was unpacked."""
    out: Path
    """Folder for the maps and dataset.json; the pictures stay where they are."""
    partial_archive: bool = False
    """Accept fewer maps than the official split has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentOptions(Settings):
    """Tells versions, devices and folders, for a report of a problem."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionOptions(Settings):
    """Prints a script that completes commands, flags and choices."""

    shell: Annotated[Literal["bash", "fish", "zsh"], Positional]
    """Whose script it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckOptions(Settings):
    """Tells what a COCO-like file holds, what of it can be used, and what is wrong with it."""

    file: Annotated[Path, Positional]
    """Instances, LVIS, panoptic, captions, results, proposals or masks; labels of YOLO, labelme, Label Studio, CVAT or
    Pascal VOC; told apart by what it holds."""
    images: Path | None = None
    """Folder of its pictures, to look whether they are there and of the listed sizes."""
    segments: Path | None = None
    """Folder of the PNGs of a panoptic file; the folder beside it with its name if not given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenesOptions(Settings):
    """Writes generated scenes with perfect labels as a COCO data set (instances and panoptic)."""

    out: Path
    """Folder to write."""
    train: int = 400
    """Scenes of the training half."""
    val: int = 100
    """Scenes of the held-out half."""
    size: tuple[int, int] = (320, 320)
    """Height and width in pixels."""
    seed: int = 0
    """Other seeds are other worlds."""

    def check(self) -> None:
        """Refuses scenes that cannot be drawn.

        Raises:
            ValueError: A number is outside its range.
        """
        self.check_not_negative("train", "val", "seed")
        self.check_sizes("size")


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityOptions(Settings):
    """Checks this package against numbers measured on the published implementations."""

    manifests: Annotated[tuple[Path, ...], Positional]
    """JSON files with their arrays beside them."""
    json: Path | None = None
    """File for the differences of every key."""
