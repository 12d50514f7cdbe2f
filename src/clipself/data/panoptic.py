"""Panoptic labels: every pixel of a picture belongs to a segment or to none. COCO's and ADE20K's panoptic files."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clipself.data.coco.kinds import Opened
from clipself.data.coco.panoptic import PanopticRows, read_panoptic
from clipself.data.coco.report import ReadReport, drawn_scenes
from clipself.data.coco.rows import Id
from clipself.data.coco.write import category_rows, image_row, segment_rows
from clipself.data.images import check_size, read_image, segment_colours
from clipself.data.images.maps import read_listed_ids
from clipself.data.once import Once
from clipself.data.scenes.art import THINGS
from clipself.data.scenes.draw import CLASSES, SceneMaker
from clipself.data.sources import check_images_exist
from clipself.data.turned import tell_turned
from clipself.files import Together, write_json
from clipself.metrics.panoptic_quality import LabelledSegment
from clipself.structures import MaskTargets, Panoptic

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticTruth:
    """One picture with its panoptic label, in original pixels.

    Attributes:
        image: RGB picture.
        ids_HW: Segment id of every pixel, int32; 0 is void.
        segments: What the ids are, crowds included.
        name: File of the picture.
        image_id: The data set's own id.
    """

    image: Image.Image
    ids_HW: NDArray[np.int32]
    segments: tuple[LabelledSegment, ...]
    name: str
    image_id: Id

    def labels_HW(self, *, void: int = 255) -> NDArray[np.int64]:
        """Class of every pixel; crowds count, void gets a value of its own."""
        labels = np.full(self.ids_HW.shape, void, dtype=np.int64)
        for segment in self.segments:
            labels[self.ids_HW == segment.id] = segment.label
        return labels


class PanopticImages(Protocol):
    """Pictures with panoptic labels."""

    class_ids: list[Id]
    class_names: list[str]
    class_is_thing: list[bool]
    report: ReadReport
    """What was read of what is listed."""

    def __len__(self) -> int:
        """How many pictures there are."""

    def read(self, index: int) -> PanopticTruth:
        """Decodes one picture and its label."""


class PanopticFile:
    """COCO's panoptic format, which ADE20K's panoptic release shares: a JSON and a folder of PNGs.

    Args:
        annotations: Panoptic JSON, or what was read of it; class ids may start at 0.
        images: Folder of the pictures.
        segments: Folder of the PNGs; the folder beside the JSON with its name if not given.
        without: Names of classes; pictures that hold one are left out.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The JSON is not a panoptic one, a class to leave out is unknown, or nothing is left.
    """

    def __init__(
        self,
        annotations: str | Path | Opened | PanopticRows,
        images: str | Path,
        *,
        segments: str | Path | None = None,
        without: Collection[str] = (),
    ) -> None:
        held = read_panoptic(annotations)
        self.report = held.report.tell()
        """What was read of what the file lists."""
        self.class_ids = [one.id for one in held.categories]
        self.class_names = [one.name for one in held.categories]
        self.class_is_thing = [one.is_thing for one in held.categories]
        self.segments = held.folder(segments)
        self._unlisted, self._absent, self._turned = Once(log), Once(log), Once(log)
        unknown = set(without) - set(self.class_names)
        if unknown:
            raise ValueError(f"{held.source} has no class {sorted(unknown)[0]!r} to leave out; it has other names")
        barred = {self.class_names.index(name) for name in without}
        self.rows = [row for row in held.rows if not any(one.label in barred for one in row.segments)]
        self.paths = [Path(images) / row.image.file for row in self.rows]
        check_images_exist(self.paths, source=held.source)
        check_images_exist([self.segments / row.file for row in self.rows], source=f"{held.source} (segment PNGs)")

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> PanopticTruth:
        """Decodes one picture and its label.

        Raises:
            ValueError: Picture and label differ in size.
        """
        row, image = self.rows[index], read_image(self.paths[index])
        png = self.segments / row.file
        ids, known_HW = read_listed_ids(png, [one.id for one in row.segments])
        check_size(ids, image.size, source=png, picture=self.paths[index])
        tell_turned(self._turned, image, name=str(self.paths[index]))
        if not known_HW.all():
            self._unlisted.warn(
                "%s holds ids that its annotation does not list, such as %d, in %.1f %% of its pixels; they belong to "
                "no class, there and in whichever other PNG", png, ids[~known_HW][0], 100 * (~known_HW).mean(),
            )  # fmt: skip
        self._tell_absent(png, ids, [one.id for one in row.segments])
        segments = tuple(LabelledSegment(id=one.id, label=one.label, is_crowd=one.is_crowd) for one in row.segments)
        return PanopticTruth(
            image=image, ids_HW=ids, segments=segments, name=str(self.paths[index]), image_id=row.image.id
        )

    def _tell_absent(self, png: Path, ids_HW: NDArray[np.int32], listed: Sequence[int]) -> None:
        """Says once that segments have no pixel: nothing can find them."""
        absent = [] if self._absent.said else [one for one in listed if not (ids_HW == one).any()]
        if absent:
            self._absent.warn(
                "%s holds no pixel of %d of the %d segments that its annotation lists, such as %d; they are never "
                "found, there and in whichever other PNG", png, len(absent), len(listed), absent[0],
            )  # fmt: skip

    def occurring(self) -> list[str]:
        """Names of the classes that at least one segment has."""
        there = {one.label for row in self.rows for one in row.segments}
        return [name for label, name in enumerate(self.class_names) if label in there]


class ScenePanoptic:
    """Generated scenes with their perfect labels, drawn when they are asked for.

    Args:
        maker: Draws the scenes.
        count: How many there are.
    """

    def __init__(self, maker: SceneMaker, count: int) -> None:
        self.maker, self.count, self.report = maker, count, drawn_scenes(count)
        self.class_names = list(CLASSES)
        self.class_ids: list[Id] = list(range(1, len(CLASSES) + 1))
        self.class_is_thing = [name in THINGS for name in CLASSES]

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> PanopticTruth:
        """Scene `index`."""
        scene = self.maker(index)
        segments = tuple(
            LabelledSegment(id=segment.id, label=self.class_names.index(segment.name)) for segment in scene.segments
        )
        return PanopticTruth(
            image=scene.image, ids_HW=scene.panoptic_HW, segments=segments, name=f"scene {index}", image_id=index + 1
        )


def mask_targets(truth: PanopticTruth) -> MaskTargets:
    """Segments as masks to learn; crowds and empty ones are left out."""
    ids = torch.from_numpy(np.ascontiguousarray(truth.ids_HW))
    kept = [(segment.label, ids == segment.id) for segment in truth.segments if not segment.is_crowd]
    kept = [(label, mask) for label, mask in kept if mask.any()]
    return MaskTargets(
        labels_N=torch.tensor([label for label, _ in kept], dtype=torch.long),
        masks_NHW=torch.stack([mask for _, mask in kept]) if kept else torch.zeros(0, *ids.shape, dtype=torch.bool),
    )


class PanopticWriter:
    """Collects predicted maps and writes them as COCO's tools read them.

    Args:
        folder: Made when missing; PNGs go to `panoptic/`, the JSON to `panoptic.json`.
        class_ids: Class id of each label.
        class_names: Its name.
        class_is_thing: Whether it is a thing.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        class_ids: Sequence[Id],
        class_names: Sequence[str],
        class_is_thing: Sequence[bool],
    ) -> None:
        self.folder = Path(folder)
        self.categories = category_rows(class_names, ids=class_ids, is_thing=class_is_thing)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self._files = Together()

    def add(self, found: Panoptic, *, image_id: Id, file: str, name: str) -> Path:
        """Writes one PNG, which has its name by the time of `close` at the latest, and remembers its segments.

        Args:
            found: The map.
            image_id: The data set's id of the picture.
            file: Name of the picture below its folder.
            name: Of the PNG, without suffix; its own among all pictures.

        Returns:
            The PNG.
        """
        ids_HW = found.ids_HW.cpu().numpy()
        png = Image.fromarray(segment_colours(ids_HW))
        path = self._files.write(self.folder / "panoptic" / f"{name}.png", lambda part: png.save(part, format="PNG"))
        self.images.append(image_row(image_id, file, ids_HW.shape))
        infos = segment_rows(found, categories=self.categories)
        self.annotations.append({"image_id": image_id, "file_name": f"{name}.png", "segments_info": infos})
        return path

    def flush(self) -> None:
        """Gives the PNGs so far their names."""
        self._files.flush()

    def close(self) -> Path:
        """Writes the JSON; it comes last, so that a folder with one is complete."""
        self.flush()
        held = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        return write_json(self.folder / "panoptic.json", held)
