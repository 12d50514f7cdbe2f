"""Boxes of a trained detector as annotations: on pictures that only have tags, alone or beside true boxes."""

import json
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou
from tqdm import tqdm

from clipself.data.coco.instances import read_instances
from clipself.data.coco.kinds import open_coco
from clipself.data.coco.write import image_row, result_rows
from clipself.data.images import read_image
from clipself.data.sources import ImageFolder
from clipself.detection.config import PseudoBoxesConfig
from clipself.detection.detector import open_detector
from clipself.engine.resolve import resolve
from clipself.files import read_json, write_text
from clipself.ops.boxes import xywh_to_xyxy
from clipself.structures import Detections
from clipself.text.names import parse_names
from clipself.text.templates import spoken_name

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class PseudoBoxes:
    """What was written.

    Attributes:
        out: The file.
        pictures: Pictures that were looked at.
        kept: Boxes that were written, true ones not counted.
        overlapping: Boxes that were dropped for a true one.
        true: True boxes that they stand beside.
        left_out: Pictures that could not be read.
    """

    out: Path
    pictures: int = 0
    kept: int = 0
    overlapping: int = 0
    true: int = 0
    left_out: list[str] = field(default_factory=list)

    def to_table(self) -> str:
        """One line for people."""
        return (
            f"{self.out}: {self.kept} pseudo boxes in {self.pictures} pictures beside {self.true} true ones; "
            f"{self.overlapping} overlapped a true box, {len(self.left_out)} pictures could not be read"
        )


def write_pseudo_boxes(config: PseudoBoxesConfig | None = None, /, **options: Any) -> PseudoBoxes:
    """Runs a detector over pictures and writes what it is sure of as an instances file that training takes.

    Source: CORA (arXiv:2303.13076), released exporters: candidates are a picture's tags, with distractors where wanted,
    of which only the tags are kept; beside true boxes, one that overlaps any of them is dropped.

    Args:
        config: All settings; or give them as keywords.
        options: Fields of `PseudoBoxesConfig`.

    Raises:
        ValueError: Names are missing, the tags do not fit, or nothing was found.
        FileNotFoundError: A file is missing.
    """
    config = resolve(PseudoBoxesConfig, None, config, **options)
    detector = open_detector(config.checkpoint, device=config.device)
    names = parse_names(config.names).names if config.names else tuple(detector.trained_names)
    tags = None if config.tags is None else read_tags(config.tags)
    held = _beside(config.annotations, config.images) if config.annotations is not None else _of_folder(config.images)
    report = PseudoBoxes(out=config.out, true=len(held.rows))
    for place, file in enumerate(tqdm(held.files, desc="pseudo boxes")):
        wanted = names if tags is None else tags.get(file, ())
        if not wanted:
            continue
        try:
            picture = read_image(held.paths[place])
        except ValueError as error:
            report.left_out.append(file)
            log.warning("%s; it is left out", error)
            continue
        report.pictures += 1
        held.images[place].setdefault("height", picture.height)
        held.images[place].setdefault("width", picture.width)
        asked = [*wanted, *distractors(names, wanted, most=config.distractors, key=f"{config.seed}/{file}")]
        (found,) = detector.stream([picture], asked, threshold=config.threshold)
        found = found[found.labels < len(wanted)]
        free = overlaps_none(found.boxes, held.true[place], most=config.overlap)
        report.overlapping += len(free) - int(free.sum())
        report.kept += held.add(place, found[free])
    if not report.kept:
        raise ValueError(f"no box scores {config.threshold} or more beside the true ones; lower --threshold")
    write_text(config.out, json.dumps(held.to_json()))
    return report


@dataclass(kw_only=True)
class _Growing:
    """An instances file to which boxes are added.

    Attributes:
        images: Its rows of pictures.
        files: Their names.
        paths: Where they lie.
        true: Boxes that each has already, `xyxy`.
        rows: Its annotations.
        categories: Its classes.
        rest: What else it holds.
    """

    images: list[dict[str, Any]]
    files: Sequence[str]
    paths: Sequence[Path]
    true: list[Tensor]
    rows: list[dict[str, Any]] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = {spoken_name(row["name"]): row["id"] for row in self.categories}
        self._category_ids, self._row_ids = free_ids(self.categories), free_ids(self.rows)

    def add(self, place: int, found: Detections) -> int:
        """Adds the boxes of a picture, and their names where they are new; says how many."""
        for name in dict.fromkeys(found.names[label] for label in found.labels.tolist()):
            if spoken_name(name) not in self._ids:
                self._ids[spoken_name(name)] = next(self._category_ids)
                self.categories.append({"id": self._ids[spoken_name(name)], "name": name})
        known = [self._ids.get(spoken_name(name), 0) for name in found.names]
        for row in result_rows(found, image_id=self.images[place]["id"], category_ids=known):
            self.rows.append(
                {"id": next(self._row_ids), **row, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0, "pseudo": 1}
            )
        return len(found)

    def to_json(self) -> dict[str, Any]:
        """The file."""
        return {**self.rest, "images": self.images, "annotations": self.rows, "categories": self.categories}


def free_ids(rows: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    """Numbers that no row has, ascending."""
    return count(1 + max((row["id"] for row in rows if isinstance(row.get("id"), int)), default=0))


def _beside(annotations: Path, images: Path) -> _Growing:
    """The true boxes of a file."""
    opened = open_coco(annotations, images=images)
    table = read_instances(opened)
    rows = table.rows_by_image(table.fit_N & ~table.crowd_N)
    boxes = [xywh_to_xyxy(torch.from_numpy(table.boxes_N4[some])).float() for some in rows]
    value, files = dict(opened.value), [one.file for one in table.images]
    return _Growing(
        images=[dict(value["images"][image.row]) for image in table.images],
        files=files, paths=[images / file for file in files], true=boxes, rows=list(value.pop("annotations")),
        categories=list(value.pop("categories")), rest={key: held for key, held in value.items() if key != "images"},
    )  # fmt: skip


def _of_folder(images: Path) -> _Growing:
    """Pictures without boxes."""
    folder = ImageFolder(images)
    rows = [image_row(number, file, None) for number, file in enumerate(folder.names, start=1)]
    return _Growing(images=rows, files=folder.names, paths=folder.paths, true=[torch.zeros(0, 4)] * len(folder))


def distractors(names: Sequence[str], wanted: Sequence[str], *, most: int, key: str) -> list[str]:
    """Some other names that are asked for and not kept: a tag must win against them."""
    said = set(map(spoken_name, wanted))
    others = [name for name in names if spoken_name(name) not in said]
    return random.Random(key).sample(others, min(most, len(others)))


def overlaps_none(boxes: Tensor, true: Tensor, *, most: float) -> Tensor:
    """Boxes (N, 4) whose IoU with every true box (M, 4) is below `most`, (N,)."""
    if not len(boxes) or not len(true):
        return torch.ones(len(boxes), dtype=torch.bool)
    free: Tensor = box_iou(boxes, true).amax(1) < most
    return free


def read_tags(path: Path) -> dict[str, tuple[str, ...]]:
    """{file name: tags} from JSON.

    Raises:
        ValueError: It is not of that form.
    """
    value = read_json(path)
    if not isinstance(value, Mapping) or not all(
        isinstance(tags, list) and all(isinstance(tag, str) and tag.strip() for tag in tags) for tags in value.values()
    ):
        raise ValueError(f'{path} is no table of tags; write {{"street.jpg": ["dog", "kite"]}}')
    return {str(file): tuple(dict.fromkeys(tags)) for file, tags in value.items()}
