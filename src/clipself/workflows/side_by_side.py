"""Models and readouts side by side in one table: `clipself compare` as a function.

Each row is a file, written when it is whole: a comparison that was stopped goes on where it was, and another model or
readout costs its own rows alone.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.loading import load_clip
from clipself.backbones.readouts import Readout, find_readout
from clipself.backbones.refinement import dense_side, refinement_of
from clipself.data.images import find_pictures
from clipself.data.labelled import LabelledImages, open_labelled
from clipself.data.panoptic import PanopticFile
from clipself.data.semantic import PanopticMaps, SemanticImage, SemanticImages, names_to_segment
from clipself.engine.fields import plain_values
from clipself.engine.resolve import resolve
from clipself.files import read_json, without_nan, write_json
from clipself.panoptic.evaluate import score_panoptic
from clipself.panoptic.generators.files import FileMasks
from clipself.panoptic.generators.mask_set import MaskGenerator
from clipself.panoptic.generators.table import generator_of, tell_files
from clipself.panoptic.judge import ClipJudge
from clipself.panoptic.to_maps import resize_masks
from clipself.regions.evaluate import score_regions
from clipself.segmentation.evaluate import score_segmenter
from clipself.segmentation.training_free.bank import RegionBank, build_bank
from clipself.segmentation.training_free.regions import region_map
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.workflows.compare_settings import CompareConfig
from clipself.workflows.comparison import ComparedRow, Comparison, short_titles
from clipself.workflows.peak_memory import PeakMemory

log = logging.getLogger(__name__)

FREE: Final = ("model", "readouts", "out", "device")
"""Settings that a row does not depend on but by its own model and readout."""
CANNOT: Final = (ValueError, OSError, ImportError)
"""What a readout that a tower does not have ends in, or a guide that is not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One model by one readout.

    Attributes:
        clip: The model.
        readout: How its dense map is read.
        side: Side at which regions and masks are seen, in pixels.
    """

    clip: DenseCLIP
    readout: str
    side: int


class Ground:
    """What all rows are measured on; opened when it is first asked for."""

    def __init__(self, config: CompareConfig) -> None:
        self.config, self.file = config, ""

    @cached_property
    def regions(self) -> LabelledImages:
        """Boxes and masks."""
        return open_labelled(self.config.annotations, self.config.images)

    @cached_property
    def semantic(self) -> SemanticImages:
        """A class for every pixel."""
        return WatchedMaps(self)

    @cached_property
    def panoptic(self) -> PanopticFile:
        """Segments."""
        return PanopticFile(self.config.annotations, self.config.images)

    @cached_property
    def true_masks(self) -> FileMasks:
        """The masks of the labels."""
        return FileMasks(self.config.annotations)

    @cached_property
    def generator(self) -> MaskGenerator:
        """Where regions of pictures come from."""
        config = self.config
        generator = generator_of(config.checkpoint, config.masks, device=pick_device(config.device))
        tell_files(generator, list(map(str, self.panoptic.paths[: config.limit])))
        return generator

    def bank_of(self, subject: Subject) -> RegionBank | None:
        """Regions of the pictures without labels, as this model reads them by this readout."""
        if self.config.bank is None:
            return None
        return build_bank(
            subject.clip, self._unlabelled(), readout=subject.readout, regions=self.regions_of,
            shortest=self.config.shortest,
        )  # fmt: skip

    def _unlabelled(self) -> Iterator[Path]:
        assert self.config.bank is not None
        for path in find_pictures(self.config.bank).paths:
            self.file = str(path)
            yield path

    def regions_of(self, picture: Image.Image) -> Tensor:
        """Numbers of the masks that the generator finds, void ones left out."""
        found = self.generator(picture, file=self.file, names=())
        masks = resize_masks(found.masks_QYX, (picture.height, picture.width)) > 0
        return region_map(masks[found.void_Q < 0.5].cpu())


class WatchedMaps(PanopticMaps):
    """Tells which picture was read last, since stored masks are found by its file."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground.config.annotations, ground.config.images)
        self.ground = ground

    def read(self, index: int) -> SemanticImage:
        """See `PanopticMaps.read`."""
        self.ground.file = str(self.held.paths[index])
        return super().read(index)


def compare(config: CompareConfig | Mapping[str, Any] | str | Path | None = None, /, **options: Any) -> Comparison:
    """Measures every readout on every model; writes rows, JSON and a picture.

    Args:
        config: All settings, also as a table or a file; or give them as keywords.
        options: Fields of `CompareConfig`.

    Raises:
        ValueError: A setting, the data or a model does not fit. A readout that a tower does not have is no error: its
            row says why.
        FileNotFoundError: A file is missing.
    """
    config = resolve(CompareConfig, None, config, **options)
    for readout in config.readouts:
        find_readout(readout)
    ground, titles = Ground(config), short_titles(config.model)
    rows: list[ComparedRow] = []
    whole: float | None = None
    with tqdm(total=len(config.model) * len(config.readouts), desc="comparing", unit="row") as bar:
        for model in config.model:
            clip = load_clip(model, config.pretrained, text_from=config.text_from, device=pick_device(config.device))
            side = config.image_size or dense_side(clip, refinement_of(model))
            key = {**_key(config), "weights": clip.weights_hash(), "side": side}
            crops = _crops(clip, ground, key, title=titles[model]) if "crops" in config.measures else None
            whole = crops if whole is None else whole
            for readout in config.readouts:
                bar.set_postfix_str(f"{titles[model]} {readout}")
                subject = Subject(clip=clip, readout=readout, side=side)
                row = _row(subject, ground, key, model=model, title=titles[model])
                kept = {} if crops is None or row.refused else {"kept": 100 * crops / whole if whole else None}
                rows.append(ComparedRow(**{**asdict(row), "scores": {**row.scores, **kept}}))
                bar.update()
    comparison = Comparison(rows=tuple(rows), settings=plain_values(config), titles=titles)
    comparison.write(config.out)
    return comparison


def _key(config: CompareConfig) -> dict[str, Any]:
    """What a row depends on beside its own model and readout."""
    plain: dict[str, Any] = json.loads(json.dumps(plain_values(config)))  # lists, as a file gives them back
    return {**{name: value for name, value in plain.items() if name not in FREE}, "measures": sorted(config.measures)}


def _row(subject: Subject, ground: Ground, key: Mapping[str, Any], *, model: str, title: str) -> ComparedRow:
    """The row as it lies there, or measured now."""
    key = {**key, "readout": subject.readout}
    path = ground.config.out / "rows" / f"{_slug(title)}-{_slug(subject.readout)}.json"
    held = _held(path, key)
    if held is not None:
        return ComparedRow(model=model, readout=subject.readout, **held)
    refused = why_not(subject.clip, find_readout(subject.readout))
    if refused:
        return ComparedRow(model=model, readout=subject.readout, refused=refused)
    begun, scores = time.perf_counter(), dict[str, float | None]()
    with PeakMemory(subject.clip.device) as memory:
        for measure in (measure for measure in MEASURES if measure in ground.config.measures):
            scores |= MEASURES[measure](subject, ground)
    found = {
        "scores": without_nan(scores), "minutes": (time.perf_counter() - begun) / 60, "memory_mib": memory.mib,
    }  # fmt: skip
    write_json(path, {"key": key, "row": found})
    return ComparedRow(model=model, readout=subject.readout, **found)


def _crops(clip: DenseCLIP, ground: Ground, key: Mapping[str, Any], *, title: str) -> float | None:
    """Accuracy on image crops, which no readout changes."""
    path = ground.config.out / "rows" / f"{_slug(title)}-crops.json"
    key = {**key, "readout": None}
    held = _held(path, key)
    if held is None:
        report = score_regions(
            clip, ground.regions, modes=("crops",), templates=ground.config.templates, limit=ground.config.limit
        )
        held = without_nan({"crops": report.scores["crops"].top1 if "crops" in report.scores else None})
        write_json(path, {"key": key, "row": held})
    crops: float | None = held["crops"]
    return crops


def _held(path: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a file says, if it was measured by the same settings."""
    if not path.is_file():
        return None
    held = read_json(path, what="row of a comparison")
    if isinstance(held, dict) and held.get("key") == key and isinstance(held.get("row"), dict):
        row: dict[str, Any] = held["row"]
        return row
    log.warning("%s was measured by other settings or weights; it is measured again", path)
    return None


def _slug(name: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", name)


def why_not(clip: DenseCLIP, readout: Readout) -> str:
    """Why a tower cannot be read so; empty where it can. Seen by one small picture."""
    patch = clip.patch_size
    cells = max(2, readout.window // patch + 1)
    blank = torch.zeros(1, 3, cells * patch, cells * patch, device=clip.device)
    try:
        with torch.no_grad():
            clip.dense_map(blank, readout=readout)
    except CANNOT as error:
        return str(error).splitlines()[0]
    return ""


# --- measures


def region_scores(subject: Subject, ground: Ground) -> dict[str, float | None]:
    """Mean class accuracy of boxes, masks of things and masks of stuff."""
    modes = {"boxes": "boxes", "thing_masks": "things", "stuff_masks": "stuff"}
    report = score_regions(
        subject.clip, ground.regions, image_size=subject.side, modes=tuple(modes), readout=subject.readout,
        templates=ground.config.templates, limit=ground.config.limit,
    )  # fmt: skip
    return {modes[mode]: score.top1 for mode, score in report.scores.items() if mode in modes}


def segmentation_score(subject: Subject, ground: Ground) -> dict[str, float | None]:
    """The mIoU of segmentation without training; CorrCLIP by the generator's masks."""
    config = ground.config
    settings = TrainingFreeSettings(
        readout=subject.readout, templates=config.templates, shortest=config.shortest, window=config.window,
        stride=config.stride,
    )  # fmt: skip
    by_region = find_readout(subject.readout).takes_regions
    segmenter = TrainingFree(
        subject.clip,
        names_to_segment(ground.semantic),
        settings,
        regions=ground.regions_of if by_region else None,
        bank=ground.bank_of(subject) if by_region else None,
    )
    return {"miou": score_segmenter(segmenter, ground.semantic, limit=config.limit).scores.miou}


def mask_score(subject: Subject, ground: Ground) -> dict[str, float | None]:
    """PQ of the true masks, so that only their classes are in question."""
    data, config = ground.panoptic, ground.config
    judge = ClipJudge(
        subject.clip, data.class_names, readout=subject.readout, image_size=subject.side, templates=config.templates
    )
    report = score_panoptic(ground.true_masks, {"": judge}, data, limit=config.limit)
    return {"pq": report.rows[0].quality.overall.pq}


Measure = Callable[[Subject, Ground], dict[str, float | None]]

MEASURES: Final[Mapping[str, Measure]] = {
    "regions": region_scores, "miou": segmentation_score, "pq": mask_score,
}  # fmt: skip
"""What is measured of a model by a readout; "crops" is of the model alone."""
