"""Pictures whose classes are known, but not where they are: folders by class, captions, or lists of labels."""

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.data import Dataset

from clipself.data.coco.kinds import Opened, open_coco, rows_of
from clipself.data.coco.report import Notes
from clipself.data.coco.rows import CocoImage, Id, clean_id, read_categories, read_images, refuse
from clipself.data.coco.segments import drop
from clipself.data.detection import DetectionDataset, DetectionSample
from clipself.data.images import find_pictures, read_image
from clipself.data.jitter import Framing
from clipself.data.mosaic import MosaicDataset
from clipself.data.sources import check_images_exist
from clipself.ops.run_lengths import shorten
from clipself.text.printable import printable
from clipself.text.templates import spoken_name

POSITIVE: Final = "pos_category_ids"
"""Key of a picture's classes in Detic's lists of ImageNet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLabels:
    """Pictures with the names of what they hold.

    Attributes:
        source: What messages call it.
        files: Each picture's name below its folder.
        paths: Each picture.
        labels: For each picture the places of its classes in `names`, each once, ascending.
        names: Of the classes, as they are known already or else as the source spells them.
        passed_over: Names of the source that no class was made of, and how often; "" counts pictures without any label.
        captions: For each picture its captions, where the source holds captions.
    """

    source: str
    files: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    passed_over: Mapping[str, int]
    captions: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def describe(self, known: Iterable[str] = ()) -> str:
        """One line of counts.

        Args:
            known: Names that training has anyway; others are told.
        """
        total = sum(map(len, self.labels))
        spoken = {spoken_name(name) for name in known}
        new = [name for name in self.names if spoken_name(name) not in spoken]
        said = f"{len(self)} pictures with {total} labels of {len(self.names)} names"
        if new:
            said += f", {len(new)} of them new: {_some(new)}"
        unlabelled = self.passed_over.get("", 0)
        if unlabelled:
            said += f"; {unlabelled} pictures without a label are left out"
        unmatched = [name for name in self.passed_over if name]
        if unmatched:
            said += f"; {len(unmatched)} names match none and are left out: {_some(unmatched)}"
        return said


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name) for name in names[:most]) + more


def read_image_labels(
    source: str | Path, images: str | Path | None = None, *, known: Sequence[str], only: Sequence[str] | None = None
) -> ImageLabels:
    """Reads labels of whole pictures, in any of three forms.

    A folder holds one folder a class, named after it, with its pictures below. A COCO captions file is searched for the
    names, each as whole words. A COCO, LVIS or Detic list gives each picture the classes of its annotations, whose
    boxes nobody looks at, or those of its "pos_category_ids".

    Args:
        source: Folder or JSON.
        images: Folder that the JSON's file names are relative to.
        known: Names of training, whose spelling wins; captions are searched for these.
        only: Names that may be learned, if not all; captions are searched for these instead.

    Raises:
        FileNotFoundError: There is no such file or folder, or a picture is missing.
        ValueError: It is of none of these forms, a row cannot be meant, or no picture has a label.
    """
    path = Path(source)
    if path.is_dir():
        held = _read_folder(path, images)
    else:
        if not path.is_file():
            raise FileNotFoundError(
                f"no labels of pictures at {path}; pass a folder with one folder a class, or a JSON"
            )
        if images is None:
            raise ValueError(f"{path} names pictures; pass the folder that they lie in as image_label_images")
        held = _read_file(open_coco(path, hook=drop), Path(images), words=only if only is not None else known)
    kept = _merge(held, known=known, only=only)
    if not len(kept):
        unmatched = [name for name in kept.passed_over if name]
        raise ValueError(
            f"{path}: no picture has a label that is wanted"
            + (f"; it names {_some(unmatched)}" if unmatched else "; captions hold none of the names")
        )
    check_images_exist(kept.paths, source=str(path))
    return kept


def _read_folder(root: Path, images: str | Path | None) -> ImageLabels:
    """A folder a class."""
    if images is not None:
        raise ValueError(f"{root} is a folder of pictures by class; leave image_label_images out")
    found = find_pictures(root).pictures
    loose = [picture.file for picture in found if "/" not in picture.file]
    if loose:
        raise ValueError(
            f"{root} holds {len(loose)} pictures that lie in no folder of a class, such as {loose[0]}; put them into a "
            "folder named after what they show, or pass a JSON"
        )
    names = tuple(dict.fromkeys(picture.file.split("/")[0] for picture in found))
    place = {name: number for number, name in enumerate(names)}
    return ImageLabels(
        source=str(root), files=tuple(picture.file for picture in found), paths=tuple(one.path for one in found),
        labels=tuple((place[picture.file.split("/")[0]],) for picture in found), names=names, passed_over={},
    )  # fmt: skip


def _read_file(opened: Opened, folder: Path, *, words: Sequence[str]) -> ImageLabels:
    """A JSON, by its kind."""
    opened.require("captions", "instances", "images", wanted="captions, instances, or a list with pos_category_ids")
    if opened.kind == "captions":
        return _read_captions(opened, folder, words)
    pictures = rows_of(opened, "images")
    if any(isinstance(row, Mapping) and POSITIVE in row for row in pictures):
        return _read_positives(opened, folder, pictures)
    opened.require("instances", wanted=f'captions, instances, or a list whose images have "{POSITIVE}"')
    return _read_annotations(opened, folder)


def _read_annotations(opened: Opened, folder: Path) -> ImageLabels:
    """Classes of a picture's annotations, boxes or not."""
    rows = rows_of(opened, "annotations")
    ids: list[Any] = [clean_id(row.get("category_id")) if isinstance(row, Mapping) else None for row in rows]
    categories = read_categories(opened, set(ids) - {None}, Notes())
    place = {one.id: number for number, one in enumerate(categories)}
    pictures, groups = _rows_by_picture(opened)
    labels: list[set[int]] = [set() for _ in pictures]
    for picture, numbers in zip(labels, groups, strict=True):
        for number in numbers:
            label = place.get(ids[number])
            if label is None:
                refuse(opened.source, "annotations", number, rows[number], "its class is none of the categories")
            picture.add(label)
    return _listed(opened.source, pictures, folder, labels, [one.name for one in categories])


def _rows_by_picture(opened: Opened) -> tuple[tuple[CocoImage, ...], list[list[int]]]:
    """The pictures of a file, and the annotations of each."""
    pictures = read_images(opened, Notes())
    place = {picture.id: number for number, picture in enumerate(pictures)}
    groups: list[list[int]] = [[] for _ in pictures]
    for number, row in enumerate(rows_of(opened, "annotations")):
        identity = clean_id(row.get("image_id")) if isinstance(row, Mapping) else None
        if identity not in place:
            refuse(opened.source, "annotations", number, row, "its picture is none of the images")
        groups[place[identity]].append(number)
    return pictures, groups


def _read_captions(opened: Opened, folder: Path, words: Sequence[str]) -> ImageLabels:
    """Names that the joined captions of a picture hold as whole words, capitals and underscores aside.

    Source: Detic (arXiv:2201.02605), Appendix: tags of Conceptual Captions and COCO, between blanks.
    """
    pictures, groups = _rows_by_picture(opened)
    rows = rows_of(opened, "annotations")
    texts = [[said for number in numbers if isinstance(said := rows[number].get("caption"), str)] for numbers in groups]
    patterns = [re.compile(rf"(?<!\w){re.escape(spoken_name(word))}(?:s|es)?(?!\w)") for word in words]
    joined = [" . ".join(lines).lower() for lines in texts]
    labels = [{number for number, pattern in enumerate(patterns) if pattern.search(text)} for text in joined]
    held = _listed(opened.source, pictures, folder, labels, list(words))
    return replace(held, captions=tuple(map(tuple, texts)))


def _read_positives(opened: Opened, folder: Path, rows: Sequence[Any]) -> ImageLabels:
    """Ids of classes beside each picture."""
    listed = {
        clean_id(row.get("id")): _positive_ids(opened.source, number, row)
        for number, row in enumerate(rows)
        if isinstance(row, Mapping)
    }
    used = {one for ids in listed.values() for one in ids}
    pictures, categories = read_images(opened, Notes()), read_categories(opened, used, Notes())
    place = {one.id: number for number, one in enumerate(categories)}
    labels: list[set[int]] = []
    for picture in pictures:
        ids = listed.get(picture.id, [])
        unknown = [one for one in ids if one not in place]
        if unknown:
            raise ValueError(
                f"{opened.source}: picture {picture.file} has the class {unknown[0]!r}, which its categories lack"
            )
        labels.append({place[one] for one in ids})
    return _listed(opened.source, pictures, folder, labels, [one.name for one in categories])


def _positive_ids(source: str, number: int, row: Mapping[str, Any]) -> list[Id]:
    """Classes of one picture."""
    held = row.get(POSITIVE)
    ids = [clean_id(one) for one in held] if isinstance(held, list) else [] if held is None else [None]
    if None in ids:
        refuse(source, "images", number, row, f'its "{POSITIVE}" is {shorten(held)}, expected a list of category ids')
    return [one for one in ids if one is not None]


def _listed(
    source: str, pictures: Sequence[CocoImage], folder: Path, labels: Sequence[set[int]], names: Sequence[str]
) -> ImageLabels:
    return ImageLabels(
        source=source, files=tuple(one.file for one in pictures), paths=tuple(folder / one.file for one in pictures),
        labels=tuple(tuple(sorted(held)) for held in labels), names=tuple(names), passed_over={},
    )  # fmt: skip


def _merge(held: ImageLabels, *, known: Sequence[str], only: Sequence[str] | None) -> ImageLabels:
    """Names that are said alike become one, known ones first; pictures and names without a use go."""
    wanted = None if only is None else {spoken_name(name) for name in only}
    spelt = {spoken_name(name): name for name in (*(only or ()), *known)}
    passed_over: Counter[str] = Counter()
    own: list[str | None] = []
    for name in held.names:
        said = spoken_name(name)
        own.append(spelt.get(said, name) if wanted is None or said in wanted else None)
    rows: list[tuple[int, set[str]]] = []
    for number, labels in enumerate(held.labels):
        passed_over.update(held.names[label] for label in labels if own[label] is None)
        found = {spelling for label in labels if (spelling := own[label]) is not None}
        if found:
            rows.append((number, found))
        else:
            passed_over[""] += 1
    used = {name for _, found in rows for name in found}
    names = [*(name for name in known if name in used), *sorted(used - set(known))]
    place = {name: number for number, name in enumerate(names)}
    kept = [number for number, _ in rows]
    return replace(
        held, files=tuple(held.files[number] for number in kept), paths=tuple(held.paths[number] for number in kept),
        labels=tuple(tuple(sorted(place[name] for name in found)) for _, found in rows), names=tuple(names),
        passed_over=dict(passed_over), captions=tuple(held.captions[number] for number in kept if held.captions),
    )  # fmt: skip


class ImageLabelDataset(Dataset[DetectionSample]):
    """Pictures with labels as a detector wants them, jittered anew each epoch.

    Every draw follows from (seed, epoch, index), so neither workers nor processes change it.

    Args:
        source: Pictures and labels.
        columns: Place of each of the source's names in the detector's classifier of labels.
        framing: How the detector wants such pictures.
        seed: Seed of every draw.
    """

    def __init__(self, source: ImageLabels, columns: Sequence[int], framing: Framing, *, seed: int = 0) -> None:
        self.source, self.columns, self.framing, self.seed = source, tuple(columns), framing, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> DetectionSample:
        epoch, index = key
        chance, captions = random.Random(f"{self.seed}/{epoch}/{index}"), self.source.captions
        framed = self.framing.train(read_image(self.source.paths[index]), chance)
        none, labels = torch.zeros(0, dtype=torch.long), self.source.labels[index]
        return DetectionSample(
            image_3HW=self.framing.pixels(framed), size=(framed.image.height, framed.image.width),
            boxes=torch.zeros(0, 4), labels=none, masks=None, name=self.source.files[index], row=-1, negatives=none,
            image_labels=torch.tensor([self.columns[label] for label in labels]),
            caption=chance.choice(captions[index]) if captions else None,
        )  # fmt: skip


class BoxesThenLabels(Dataset[DetectionSample]):
    """Two data sets, one behind the other, by (epoch, index)."""

    def __init__(self, boxed: DetectionDataset | MosaicDataset, labelled: ImageLabelDataset) -> None:
        self.boxed, self.labelled = boxed, labelled

    def __len__(self) -> int:
        return len(self.boxed) + len(self.labelled)

    def __getitem__(self, key: tuple[int, int]) -> DetectionSample:
        epoch, index = key
        if index < len(self.boxed):
            return self.boxed[key]
        return self.labelled[epoch, index - len(self.boxed)]
