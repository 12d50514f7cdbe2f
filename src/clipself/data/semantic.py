"""Images with a class for every pixel: index maps in a folder, COCO panoptic files, generated scenes."""

import json
import logging
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipself.data.coco.report import Notes, ReadReport, drawn_scenes
from clipself.data.images import (
    IGNORED,
    IGNORED_16,
    check_size,
    find_maps,
    find_pictures,
    read_image,
    read_index_map,
)
from clipself.data.once import Once
from clipself.data.panoptic import PanopticFile
from clipself.data.scenes.draw import CLASSES, SceneMaker
from clipself.data.sources import read_json
from clipself.data.turned import tell_turned
from clipself.renamed import old_names
from clipself.text.vocabulary import load_vocabulary

log = logging.getLogger(__name__)

CARD: Final = "dataset.json"
"""What `clipself data prepare` leaves beside the maps: names, ignore label, folders."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticImage:
    """One picture and the class of each of its pixels.

    Attributes:
        image: RGB picture.
        labels_HW: Index into the classes, or the ignore label.
        name: Path of the picture.
    """

    image: Image.Image
    labels_HW: Tensor
    name: str


class SemanticImages(Protocol):
    """A labelled set."""

    class_names: list[str]
    ignore_label: int
    image_names: list[str]
    """What the set calls its pictures, wherever it lies."""
    report: ReadReport
    """What was read of what is listed."""

    def __len__(self) -> int:
        """How many images there are."""

    def read(self, index: int) -> SemanticImage:
        """Decodes one picture and its labels."""


class IndexMaps:
    """Pictures and index maps of the same names in two folders.

    Args:
        images: Folder of pictures, at any depth.
        labels: Folder of maps (PNG or TIFF of 8 or 16 bits), in the same order of folders.
        names: Class names; value + `shift` is the index.
        ignore_label: Value that counts nowhere, after the shift.
        shift: Added to every value but the ignored ones; -1 for maps that count from 1, whose 0 is then ignored.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: No picture has a map.
    """

    def __init__(
        self,
        images: str | Path,
        labels: str | Path,
        names: Sequence[str],
        *,
        ignore_label: int = IGNORED,
        shift: int = 0,
    ) -> None:
        images, labels = Path(images), Path(labels)
        for folder in (images, labels):
            if not folder.is_dir():
                raise FileNotFoundError(f"no folder at {folder}; pass the folders of pictures and of index maps")
        self.class_names, self.ignore_label, self.shift = list(names), ignore_label, shift
        self._turned = Once(log)
        self.segment_names: list[str] | None = None
        """Names to segment by, where the last class stands for several of them (VOC with a background)."""
        maps = {_key(path, labels): path for path in find_maps(labels)}
        pictures = find_pictures(images).paths
        self.pairs = [(path, maps[key]) for path in pictures if (key := _key(path, images)) in maps]
        if not self.pairs:
            raise ValueError(
                f"none of the {len(pictures)} pictures in {images} has a map of its name among the {len(maps)} in "
                f"{labels}; a/b.jpg belongs to a/b.png"
            )
        self.image_names = [path.relative_to(images).as_posix() for path, _ in self.pairs]
        notes, paired = Notes(), {path for path, _ in self.pairs}
        for path in pictures:
            if path not in paired:
                notes.add(f"pictures have no map in {labels} and are left out", path.relative_to(images).as_posix())
        self.report = ReadReport(
            source=str(images), kind="index maps", listed={"pictures": len(pictures), "maps": len(maps)},
            read={"pictures": len(self.pairs), "maps": len(self.pairs)}, remarks=notes.remarks(),
        ).tell()  # fmt: skip

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> SemanticImage:
        """Decodes a picture and its map.

        Raises:
            ValueError: The sizes differ, or a value is neither a class nor the ignore label.
        """
        picture, path = self.pairs[index]
        image, values = read_image(picture), read_index_map(path).astype(np.int64)
        check_size(values, image.size, source=path, picture=picture)
        tell_turned(self._turned, image, name=str(picture))
        labels = np.where(values == self.ignore_label, values, values + self.shift)
        labels[labels < 0] = self.ignore_label
        wrong = np.unique(labels[(labels != self.ignore_label) & (labels >= len(self.class_names))])
        if len(wrong):
            raise ValueError(
                f"{path} holds the class {wrong[0]}, there are {len(self.class_names)} names and "
                f"{self.ignore_label} is ignored; pass the names, the shift and the ignore label of these maps"
            )
        return SemanticImage(image=image, labels_HW=torch.from_numpy(labels), name=str(picture))


def _key(path: Path, folder: Path) -> str:
    """By what a picture and its map are called alike: without suffix, whichever form of Unicode their archive had."""
    return unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())


class PanopticMaps:
    """A COCO panoptic file as semantic maps: every segment by its class, things and stuff alike.

    Args:
        annotations: Panoptic JSON.
        images: Folder of the pictures.
    """

    def __init__(self, annotations: str | Path, images: str | Path) -> None:
        self.held = PanopticFile(annotations, images)
        self.class_names, self.report = self.held.class_names, self.held.report
        self.ignore_label = IGNORED if len(self.class_names) <= IGNORED else IGNORED_16
        self.image_names = [Path(os.path.relpath(path, images)).as_posix() for path in self.held.paths]

    def __len__(self) -> int:
        return len(self.held)

    def read(self, index: int) -> SemanticImage:
        """Decodes a picture and its segments; pixels of no segment are ignored."""
        truth = self.held.read(index)
        labels = torch.from_numpy(truth.labels_HW(void=self.ignore_label))
        return SemanticImage(image=truth.image, labels_HW=labels, name=truth.name)


class SceneMaps:
    """Generated scenes as semantic maps, drawn when they are asked for.

    Args:
        maker: Draws the scenes.
        count: How many there are.
    """

    def __init__(self, maker: SceneMaker, count: int) -> None:
        self.maker, self.count, self.report = maker, count, drawn_scenes(count)
        self.class_names, self.ignore_label = list(CLASSES), IGNORED
        self.image_names = [f"scene {index}" for index in range(count)]

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> SemanticImage:
        """Scene `index`."""
        scene = self.maker(index)
        rank = np.full(len(scene.segments) + 1, self.ignore_label, dtype=np.int64)
        for segment in scene.segments:
            rank[segment.id] = CLASSES.index(segment.name)
        return SemanticImage(
            image=scene.image, labels_HW=torch.from_numpy(rank[scene.panoptic_HW]), name=f"scene {index}"
        )


class SomeClasses:
    """A labelled set of which only some classes are told; pixels of the others are ignored.

    Args:
        data: The whole set.
        names: Classes that are kept, by name; their order is theirs in the set.

    Raises:
        ValueError: A name is not a class of the set.
    """

    def __init__(self, data: SemanticImages, names: Sequence[str]) -> None:
        unknown = sorted(set(names) - set(data.class_names))
        if unknown or not names:
            raise ValueError(
                f"{unknown[0]!r} is not a class of the data, which has {data.class_names[:5]} ..."
                if unknown
                else "there are no classes to keep; name at least one"
            )
        self.data, self.ignore_label, self.image_names = data, data.ignore_label, data.image_names
        self.report = data.report
        kept = [place for place, name in enumerate(data.class_names) if name in set(names)]
        self.class_names = [data.class_names[place] for place in kept]
        self.rank = torch.full((max(data.ignore_label, len(data.class_names)) + 1,), data.ignore_label)
        self.rank[torch.tensor(kept)] = torch.arange(len(kept))

    def __len__(self) -> int:
        return len(self.data)

    def read(self, index: int) -> SemanticImage:
        """One image with the other classes ignored."""
        held = self.data.read(index)
        return SemanticImage(image=held.image, labels_HW=self.rank[held.labels_HW], name=held.name)


def open_semantic(data: str | Path, *, images: str | Path | None = None, split: str = "val") -> SemanticImages:
    """Opens a labelled set, whichever of the three it is.

    Args:
        data: A COCO panoptic JSON; or a folder that `clipself data prepare` has written; or a folder with `images`,
            `labels` and `names.txt` in it.
        images: Folder of the pictures, for a JSON.
        split: "train" or "val", where a folder has both.

    Raises:
        FileNotFoundError: Something is missing.
        ValueError: The folder or file is of none of these forms.
    """
    path = Path(data)
    if path.suffix == ".json":
        if images is None:
            raise ValueError(f"{path} needs the folder of its pictures; pass images= (--images)")
        return PanopticMaps(path, images)
    if (path / CARD).is_file():
        return open_prepared(path, split=split)
    if (path / "names.txt").is_file():
        names = list(load_vocabulary(path / "names.txt").names)
        nested = (path / "images" / split).is_dir()
        images, labels = (path / part / split if nested else path / part for part in ("images", "labels"))
        return IndexMaps(images, labels, names, ignore_label=IGNORED if len(names) <= IGNORED else IGNORED_16)
    raise ValueError(
        f"{path} is no labelled set: neither a COCO panoptic JSON, nor a folder with {CARD} (of clipself data "
        "prepare), nor one with images/, labels/ and names.txt"
    )


def open_prepared(folder: str | Path, *, split: str = "val") -> IndexMaps:
    """Opens a set that `clipself data prepare` has written."""
    folder = Path(folder)
    card = read_json(folder / CARD)
    if split not in card["splits"]:
        raise ValueError(f"{folder} has the splits {sorted(card['splits'])}, not {split!r}")
    place = card["splits"][split]
    maps = IndexMaps(place["images"], folder / place["labels"], card["names"], ignore_label=card["ignore_label"])
    maps.segment_names = card.get("segment_names")
    return maps


def describe_set(
    names: Sequence[str],
    ignore_label: int,
    splits: dict[str, dict[str, str]],
    *,
    segment_names: Sequence[str] | None = None,
) -> str:
    """The text of `dataset.json`."""
    held = {"names": list(names), "ignore_label": ignore_label, "splits": splits}
    if segment_names is not None:
        held["segment_names"] = list(segment_names)
    return json.dumps(held, indent=1) + "\n"


def tell_absent_classes(data: SemanticImages, *, most: int = 24) -> None:
    """Looks at some label maps, spread over the set, and tells which classes none of them holds.

    Args:
        data: A labelled set that is to be learned from.
        most: Maps looked at; all of a smaller set.

    Raises:
        ValueError: The whole set was looked at, and no pixel is labelled at all.
    """
    count = min(most, len(data))
    pixels = np.zeros(max(data.ignore_label, len(data.class_names)) + 1, dtype=np.int64)
    for place in range(count):
        labels_HW = data.read(place * len(data) // count).labels_HW
        pixels += np.bincount(labels_HW.numpy().ravel(), minlength=len(pixels))
    absent = [name for name, pixel in zip(data.class_names, pixels, strict=False) if not pixel]
    looked = f"the {len(data)} label maps" if count == len(data) else f"{count} of {len(data)} label maps looked at"
    ignored = 100 * pixels[data.ignore_label] / max(1, pixels.sum())
    share = f"{ignored:.0f} % of the pixels are {data.ignore_label}, the value of unlabelled ones"
    if len(absent) == len(data.class_names) and count == len(data):
        raise ValueError(
            f"no pixel of {looked} is of any class, so that there is nothing to learn; {share}: do the values of the "
            "maps count the names from 0?"
        )
    if absent:
        more = f" and {len(absent) - 8} more" if len(absent) > 8 else ""
        log.warning("%s hold no pixel of %s%s; %s", looked, ", ".join(absent[:8]), more, share)


def names_to_segment(data: SemanticImages) -> list[str]:
    """What a segmenter is asked for: the classes, or the longer list whose end is scored as the last class."""
    return list(getattr(data, "segment_names", None) or data.class_names)


__getattr__ = old_names(__name__)
