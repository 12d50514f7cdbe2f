"""What the frozen CLIP says of the annotated boxes, computed once: rows that training asks by."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from clipself.backbones.activation import computation_hash
from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.examples import embed_pictures
from clipself.backbones.text import default_cache_dir
from clipself.data.detection import CocoDetection
from clipself.data.images import read_image
from clipself.data.images.inside import change_of
from clipself.files import locked, write_atomically
from clipself.text.printable import name_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CropRows:
    """Embeddings of crops by class.

    Attributes:
        rows_MD: Unit rows on the CPU.
        of_class: Places of each class in them.
    """

    rows_MD: Tensor
    of_class: Mapping[int, Sequence[int]]

    def draw(self, label: int, generator: torch.Generator) -> Tensor | None:
        """One row (D,) of a class, of any picture; None where the class has none."""
        own = self.of_class.get(label, ())
        if not own:
            return None
        return self.rows_MD[own[int(torch.randint(len(own), (1,), generator=generator))]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Box:
    image: int
    corners: tuple[float, float, float, float]
    label: int


def embed_crops(
    clip: DenseCLIP, data: CocoDetection, *, least: int, most_of_class: int | None, cache: Path | None = None
) -> CropRows:
    """Embeds the annotated boxes of a training set, or reads what was embedded before.

    Source: OV-DETR, released preparation, whose filter of sizes looks at a box's top and width where it means height
    and width; here it is both sides.

    Args:
        clip: The frozen CLIP.
        data: Images and boxes.
        least: Least side of a box, in pixels.
        most_of_class: First boxes of each class; None for all.
        cache: Folder for the rows; the package's own cache if not given.
    """
    boxes = list(_chosen(data, least=least, most_of_class=most_of_class))
    of_class: dict[int, list[int]] = {}
    for place, box in enumerate(boxes):
        of_class.setdefault(box.label, []).append(place)
    path = (cache or default_cache_dir() / "crops") / f"{_key(clip, data, boxes)}.safetensors"
    with locked(path.with_suffix(".lock")):  # of several processes, one embeds
        if not path.is_file():
            log.info("embedding %d crops of annotated boxes", len(boxes))
            rows_MD = embed_pictures(clip, _cut_out(data, boxes))
            write_atomically(path, lambda part: save_file({"rows": rows_MD}, part))
        rows_MD = load_file(path)["rows"]
    return CropRows(rows_MD=rows_MD, of_class=of_class)


def _chosen(data: CocoDetection, *, least: int, most_of_class: int | None) -> Iterator[_Box]:
    taken: dict[int, int] = {}
    for image in range(len(data)):
        for box, label in zip(data.boxes(image).tolist(), data.labels(image).tolist(), strict=True):
            if min(box[2] - box[0], box[3] - box[1]) < least:
                continue
            if most_of_class is not None and taken.get(label, 0) >= most_of_class:
                continue
            taken[label] = taken.get(label, 0) + 1
            yield _Box(image=image, corners=tuple(box), label=label)


def _cut_out(data: CocoDetection, boxes: list[_Box]) -> Iterator[Image.Image]:
    opened, picture = -1, None
    for box in boxes:
        if box.image != opened:
            opened, picture = box.image, read_image(data.paths[box.image])
        assert picture is not None
        left, top, right, bottom = map(round, box.corners)
        yield picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _key(clip: DenseCLIP, data: CocoDetection, boxes: list[_Box]) -> str:
    digest = hashlib.sha256(computation_hash(clip, "image").encode())
    stamps: dict[int, str] = {}
    for box in boxes:
        if box.image not in stamps:
            stamps[box.image] = f"{data.names[box.image]} {change_of(data.paths[box.image])}"
        digest.update(name_bytes(f"{stamps[box.image]} {box.corners}\n"))
    return digest.hexdigest()[:24]
