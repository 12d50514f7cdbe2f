"""Settings of `clipself label`; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from clipself.backbones.packaged import REFINED
from clipself.engine.config import Settings

Task = Literal["auto", "detect", "segment", "panoptic"]
Format = Literal["coco", "yolo", "yolo-polygons", "label-studio", "labelme", "cvat", "voc"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig(Settings):
    """Labels pictures by names and writes data sets; the same command again goes on where it was stopped."""

    images: Annotated[tuple[Path, ...], Positional]
    """Picture files, folders of them, and videos."""
    every: int = 1
    """Of videos 1 takes all frames, 10 every tenth."""
    out: Path = Path("labels")
    """Folder to write: a folder for each format, `review/`, and `labels.jsonl`, by which a stopped run goes on."""
    names: tuple[str, ...] = ()
    """What to look for: words, a text file or a packaged vocabulary; the names of training if not given."""
    stuff: tuple[str, ...] = ()
    """Panoptic: names that are uncountable, such as grass and sky; one that `names` lacks is looked for too."""
    examples: Path | None = None
    """What to look for by its looks, beside `names` or in place of their words: a folder that holds a folder for each
    thing, called as the thing is, with pictures that show it, closely cut; or labels, with `example_images`."""
    example_images: Path | None = None
    """Folder of the pictures of `examples` that are labels: their boxes or masks are the examples."""
    task: Task = "auto"
    """What looks: a detector, a segmenter (each connected part is an object), or a mask generator with a CLIP; auto is
    what the checkpoint is, or the packaged detector without one."""
    checkpoint: str | None = None
    """Folder that `detect train`, `segment train` or `panoptic train` wrote, a packaged one, or "hf:NAME" for a model
    of transformers' hub: OWL-ViT, OWLv2 or Grounding DINO, Mask2Former or MaskFormer."""
    masks: Path | None = None
    """Panoptic: a JSON or folder of masks made elsewhere, such as SAM's, in place of a generator."""
    model: str = REFINED
    """The CLIP that segments without a checkpoint, or that judges masks."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    formats: tuple[Format, ...] = ("coco",)
    """What is written: COCO JSON, YOLO's boxes or polygons, Label Studio's tasks, labelme's JSON (X-AnyLabeling reads
    it), CVAT's XML, Pascal VOC's XML."""
    threshold: float = 0.3
    """Least score."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Other least scores of some names, as in `cat 0.5 dog 0.2`."""
    overlap: float = 0.8
    """Of objects that overlap by this IoU, whatever they are called, the best stays; 1 keeps all. Masks are compared
    where there are some."""
    least_area: float = 0.0005
    """Objects that cover a smaller share of their picture are left out."""
    tolerance: float = 1.0
    """How far the border of a polygon may move from that of its mask, in pixels; 0 keeps every pixel."""
    copy_images: bool = False
    """Copy pictures where a format holds them; else there are links to them."""
    url: str = "/data/local-files/?d="
    """What stands ahead of file names in Label Studio's tasks."""
    review: bool = True
    """Whether to make a page of thumbnails, of the best and the most doubtful objects of each name, and of scores."""
    review_objects: int = 12
    """Best and most doubtful objects of a name on that page, each."""
    overwrite: bool = False
    """Begin anew where the folder holds labels of other settings or pictures."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            ValueError: A setting is outside its range, or two exclude each other.
        """
        self.check_counts("every")
        self.check_shares("threshold", "overlap", "least_area")
        self.check_not_negative("tolerance", "review_objects")
        for name, value in self.thresholds.items():
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"thresholds: that of {name!r} is {value}, which is not in [0, 1]")
        if not self.formats:
            raise ValueError("formats is empty; name at least one, such as coco")
        if self.masks is not None and self.checkpoint is not None:
            raise ValueError("masks and checkpoint both say where masks come from; choose one of them")
        if self.masks is not None and self.task not in ("auto", "panoptic"):
            raise ValueError(f"masks are for task panoptic, not {self.task}")
