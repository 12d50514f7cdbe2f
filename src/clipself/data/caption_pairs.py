"""Pictures with captions: a COCO captions file, a table of paths and captions, or tar shards."""

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from clipself.data.caption_tables import FORMS, begins_with, read_rows, read_table, rows_of_list
from clipself.data.coco.kinds import open_coco, rows_of
from clipself.data.coco.report import Notes, ReadReport
from clipself.data.coco.rows import clean_id, place, read_images, refuse
from clipself.data.images import read_image
from clipself.data.images.shard_files import are_shards
from clipself.data.preprocess import Preprocess
from clipself.data.shards import CaptionShards, find_shards
from clipself.data.sources import check_images_exist
from clipself.ops.run_lengths import shorten
from clipself.structures import CaptionBatch

log = logging.getLogger(__name__)

MOST_SKIPPED: Final = 1000
"""Unreadable pairs in a row at which something else is wrong."""


class CaptionSource(Protocol):
    """Pictures by index, each with at least one caption.

    Attributes:
        names: Where each pair comes from; made when asked for, so that no list of them need be held.
    """

    @property
    def names(self) -> Sequence[str]:
        """Of the pictures, in order."""

    def read(self, index: int) -> tuple[Image.Image, Sequence[str]]:
        """The picture, and all of its captions."""

    def order(self, key: str) -> Iterable[int]:
        """All indices once, shuffled by the key, in an order that reads well."""


class CaptionFiles:
    """Picture files with captions, from a COCO captions file or a table.

    Args:
        paths: Of the pictures.
        captions: Of each picture.
        names: Of each picture.
    """

    def __init__(self, paths: Sequence[Path], captions: Sequence[Sequence[str]], names: Sequence[str]) -> None:
        self.paths, self.captions, self.names = paths, captions, names

    def read(self, index: int) -> tuple[Image.Image, Sequence[str]]:
        """The picture, and all of its captions."""
        return read_image(self.paths[index]), self.captions[index]

    def order(self, key: str) -> list[int]:
        """Any order is as good as another."""
        order = list(range(len(self.paths)))
        random.Random(key).shuffle(order)
        return order


def open_captions(annotations: str | Path, images: str | Path | None = None) -> CaptionSource:
    """Opens pictures with captions, told apart by the file's suffix.

    Args:
        annotations: COCO captions JSON; a .tsv with a path and a caption a line; a .csv whose first line names its
            columns; a .jsonl with an object a line, or a JSON list of such objects; a .tar shard or a folder of them,
            as WebDataset writes them.
        images: Folder that paths are relative to; the table's own if not given. Shards hold their pictures.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A row cannot be meant, or nothing is left.
    """
    path = Path(annotations)
    if path.is_dir() or are_shards(path):
        return CaptionShards(find_shards(path))
    if not path.is_file():
        raise FileNotFoundError(
            f"no captions at {path}; pass a COCO captions JSON, a .tsv, a .csv, a .jsonl, a .tar or a folder of .tar"
        )
    folder = Path(images) if images is not None else path.parent
    if path.suffix.lower() in FORMS:
        return _of_files(path, read_table(path, folder), folder)
    begun = begins_with(path)
    if begun not in ("{", "["):
        raise ValueError(
            f"{path} is no table of captions that is read here; write it as {', '.join(FORMS)} or as COCO captions JSON"
        )
    rows = rows_of_list(path) if begun == "[" else None
    if rows is not None:
        return _of_files(path, read_rows(path, rows, folder), folder)
    if images is None:
        raise ValueError(f"{path} names pictures; pass images=, the folder that they lie in")
    return _read_coco(path, Path(images))


def _read_coco(path: Path, folder: Path) -> CaptionFiles:
    held = open_coco(path).require("captions", wanted="a COCO captions file")
    notes = Notes()
    listed = read_images(held, notes)
    captions: dict[int | str, list[str]] = {image.id: [] for image in listed}
    for row, one in enumerate(rows_of(held, "annotations")):
        if not isinstance(one, dict):
            refuse(held.source, "annotations", row, one, f"is {shorten(one)}, expected an object")
        image, caption = clean_id(one.get("image_id")), one.get("caption")
        if caption is None and "caption" in one:
            caption = ""  # what tables without a cell become in JSON
        if image not in captions:
            refuse(held.source, "annotations", row, one, f'its "image_id" {shorten(one.get("image_id"))} is not listed')
        if not isinstance(caption, str):
            refuse(held.source, "annotations", row, one, f'its "caption" is {shorten(caption)}, expected text')
        if caption.strip():
            captions[image].append(caption.strip())
        else:
            notes.add("captions without a word left out", place(held.source, "annotations", row, one))
    kept = [image for image in listed if captions[image.id]]
    counts = {"pictures": len(listed)}, {"pictures": len(kept)}
    ReadReport(source=held.source, kind=held.kind, listed=counts[0], read=counts[1], remarks=notes.remarks()).tell()
    files = [folder / image.file for image in kept]
    check_images_exist(files, source=held.source)
    return CaptionFiles(files, [captions[image.id] for image in kept], [image.file for image in kept])


def _of_files(path: Path, captions: Mapping[str, list[str]], folder: Path) -> CaptionFiles:
    files = [folder / file for file in captions]
    check_images_exist(files, source=str(path))
    return CaptionFiles(files, list(captions.values()), list(captions))


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionSample:
    """One pair ready for a batch."""

    image_3HW: Tensor
    tokens_L: Tensor
    name: str


class CaptionDataset(Dataset[CaptionSample]):
    """Random crops of pictures with one of their captions, drawn anew each epoch.

    Every draw follows from (seed, epoch, index), so neither workers nor processes change it.

    Args:
        source: Pictures and captions.
        preprocess: Normalisation of the model.
        tokenizer: Texts -> token ids (K, L).
        size: Height and width of the model's input, in pixels.
        area: Least and largest share of a picture's area that is cut out.
        aspect: Least and largest width over height of what is cut out, relative to the input's.
        flip: Probability of a mirrored picture.
        seed: Seed of every draw.
        skip_unreadable: Whether a damaged pair gives its place to the next readable one; else it is an error.
    """

    def __init__(
        self, source: CaptionSource, *, preprocess: Preprocess, tokenizer: Callable[[list[str]], Any],
        size: tuple[int, int], area: tuple[float, float] = (1.0, 1.0), aspect: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.0, seed: int = 0, skip_unreadable: bool = True,
    ) -> None:  # fmt: skip
        self._told: set[int] = set()  # unreadable pairs are told once, not in every epoch
        self.skip_unreadable = skip_unreadable
        self.source, self.preprocess, self.tokenizer, self.size = source, preprocess, tokenizer, size
        self.area, self.aspect, self.flip, self.seed = area, aspect, flip, seed

    def __len__(self) -> int:
        return len(self.source.names)

    def __getitem__(self, key: int | tuple[int, int]) -> CaptionSample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = random.Random(f"{self.seed}/{epoch}/{index}")
        index, image, captions = self._read(index)
        caption = rng.choice(list(captions))
        box = None if self.area == (1.0, 1.0) else self._draw_box(image.size, rng)
        resized = image.resize((self.size[1], self.size[0]), Image.Resampling.BICUBIC, box=box)
        if self.flip and rng.random() < self.flip:
            resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return CaptionSample(
            image_3HW=self.preprocess.normalize(resized), tokens_L=self.tokenizer([caption])[0],
            name=self.source.names[index],
        )  # fmt: skip

    def _read(self, index: int) -> tuple[int, Image.Image, Sequence[str]]:
        """The pair, or the next readable one."""
        for offset in range(min(len(self), MOST_SKIPPED)):
            chosen = (index + offset) % len(self)
            try:
                return (chosen, *self.source.read(chosen))
            except (ValueError, FileNotFoundError) as error:
                if not self.skip_unreadable:
                    raise
                if chosen not in self._told:
                    self._told.add(chosen)
                    log.warning("%s; the next pair takes its place", error)
        raise ValueError(f"none of {min(len(self), MOST_SKIPPED)} pairs in a row can be read; look at the data")

    def _draw_box(self, size: tuple[int, int], rng: random.Random) -> tuple[float, float, float, float]:
        """A random resized crop; the whole picture where none fits."""
        width, height = size
        for _ in range(10):
            area = width * height * rng.uniform(*self.area)
            aspect = self.aspect[0] * (self.aspect[1] / self.aspect[0]) ** rng.random()
            w, h = (area * aspect) ** 0.5, (area / aspect) ** 0.5
            left, top = rng.random() * (width - w), rng.random() * (height - h)
            if w <= width and h <= height:
                return left, top, left + w, top + h
        return 0.0, 0.0, float(width), float(height)


def collate_captions(samples: Sequence[CaptionSample]) -> CaptionBatch:
    """Stacks pictures and texts."""
    return CaptionBatch(
        images_B3HW=torch.stack([sample.image_3HW for sample in samples]),
        tokens_BL=torch.stack([sample.tokens_L for sample in samples]),
        names=tuple(sample.name for sample in samples),
    )
