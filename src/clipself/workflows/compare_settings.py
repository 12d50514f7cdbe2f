"""Settings of the comparison of models and readouts; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipself.engine.config import Settings
from clipself.panoptic.settings import check_sources

COMPARED: Final = (
    "value", "qk", "sclip", "clearclip", "naclip", "vv-bare", "self-self-bare", "surgery", "gem", "proxyclip",
    "corrclip", "proxyclip-after", "corrclip-after", "value:window=224,stride=112", "ov-stitcher",
)  # fmt: skip
"""Readouts that are compared where none are named; the guided ones by the CLIP itself."""

MEASURED: Final = ("regions", "miou", "pq", "crops")
"""What is measured: regions by the dense map, segmentation without training, true masks judged, image crops."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig(Settings):
    """One table of models and readouts: regions, segmentation, masks, crops, time and memory."""

    annotations: Path
    """COCO panoptic JSON: boxes, masks and stuff of all pictures."""
    images: Path
    """Folder of the pictures."""
    model: tuple[str, ...] = ("clipself-mini",)
    """open_clip names, "clipself-mini", or export folders; what of crops is kept is told against the first."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    text_from: str | None = None
    """Release whose text tower is taken where a checkpoint has none."""
    readouts: tuple[str, ...] = COMPARED
    """Readouts, each with options, windows and a guide as `docs/readouts.md` spells them."""
    measures: tuple[str, ...] = MEASURED
    """Which of regions, miou, pq and crops to measure."""
    checkpoint: str | None = None
    """Mask generator whose masks are CorrCLIP's regions in segmentation: a folder that `panoptic train` wrote, or
    "hf:NAME" for a checkpoint of transformers; the packaged one if not given."""
    masks: Path | None = None
    """JSON or folder of stored masks, in place of the generator."""
    bank: Path | None = None
    """Folder of pictures without labels, whose regions support CorrCLIP's in segmentation (CorrCLIPv2)."""
    image_size: int | None = None
    """Side at which regions and masks are seen, in pixels; a multiple of the patch. If not given, each model is read
    at the size it was refined at, which its card says, else at the published 1024 (small models at twice their own)."""
    shortest: int = 336
    """Segmentation: shortest side that pictures are brought to, in pixels."""
    window: int = 224
    """Segmentation: side of a window, for readouts without windows of their own."""
    stride: int = 112
    """Segmentation: step from window to window."""
    templates: str = "imagenet"
    """Sentences around the names: imagenet, vild, detection, simple, or a text file."""
    limit: int | None = None
    """First pictures only."""
    out: Path = Path("comparison")
    """Folder for rows/, comparison.json and comparison.png; rows that lie there by the same settings are kept."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses what makes no table.

        Raises:
            ValueError: There is no model, readout or measure, one is named twice, or a number is below 1.
        """
        self.check_counts("limit")
        self.check_sizes("image_size", "shortest", "window", "stride")
        check_sources(self.checkpoint, self.masks)
        unknown = sorted(set(self.measures) - set(MEASURED))
        if unknown or not self.measures:
            raise ValueError(f"unknown measure {unknown[0] if unknown else ''!r}, expected some of {list(MEASURED)}")
        for what in ("model", "readouts", "measures"):
            held: tuple[str, ...] = getattr(self, what)
            twice = [one for place, one in enumerate(held) if one in held[:place]]
            if not held or twice:
                raise ValueError(
                    f"{what} names {f'{twice[0]} twice' if twice else 'nothing'}; each is a row of its own"
                )
