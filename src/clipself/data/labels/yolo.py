"""YOLO's text files: a line an object, sides in shares of the picture; written, and read in the layouts in use."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from clipself.data.images.find import FoundPicture, find_pictures
from clipself.data.images.inside import open_inside
from clipself.data.images.names import OwnStems
from clipself.data.images.read import size_of
from clipself.data.images.stored import as_stored
from clipself.data.labels.converted import Collector, Converted, number
from clipself.data.labels.objects import Export, LabelledPicture
from clipself.files import Together, read_text, write_text

CLASS_LISTS: Final = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
"""Files with a class a line."""
NO_LABELS: Final = frozenset((*CLASS_LISTS, "train.txt", "val.txt", "valid.txt", "test.txt", "notes.txt", "readme.txt"))
"""Text files that are no labels."""
PARTS: Final = ("train", "val", "valid", "test")
SLACK: Final = 0.02
"""Shares that stick out of the picture by no more than this are rounding; exporters cut at it or do not."""


def write_boxes(export: Export, out: Path) -> Path:
    """`labels/`, `images/` (links to the pictures, or copies) and `data.yaml`, whose path is returned; boxes alone."""
    return _write(export, out, polygons=False)


def write_polygons(export: Export, out: Path) -> Path:
    """As `write_boxes`, each object one polygon; one without a mask is that of its box."""
    return _write(export, out, polygons=True)


def _write(export: Export, out: Path, *, polygons: bool) -> Path:
    own = OwnStems()
    with Together() as files:
        for picture in export:
            file = own(picture.file)
            lines = "".join(f"{line}\n" for line in _lines(picture, export.tolerance if polygons else None))
            files.write_text((out / "labels" / file).with_suffix(".txt"), lines)
            place_picture(picture.path, out / "images" / file, files, copy=export.copy)
    held = {"path": ".", "train": "images", "val": "images", "nc": len(export.names), "names": list(export.names)}
    return write_text(out / "data.yaml", yaml.safe_dump(held, sort_keys=False, allow_unicode=True))


def _lines(picture: LabelledPicture, tolerance: float | None) -> Iterator[str]:
    height, width = picture.size
    for one in picture.objects:
        left, top, right, bottom = one.box
        ring = None if tolerance is None else one.polygon(tolerance)
        if tolerance is None:
            values = [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width,
                      (bottom - top) / height]  # fmt: skip
        elif ring is not None:
            values = (ring / [width, height]).flatten().tolist()
        else:
            corners = ((left, top), (right, top), (right, bottom), (left, bottom))
            values = [share for x, y in corners for share in (x / width, y / height)]
        yield " ".join([str(one.label), *(f"{min(max(value, 0.0), 1.0):.6f}" for value in values)])


def place_picture(source: Path, target: Path, files: Together, *, copy: bool) -> None:
    """Links a picture into a data set, or copies it where it should be or where links cannot be made.

    What lies within a larger file is written out.
    """
    if (member := open_inside(source)) is not None:
        files.write_bytes(target, member.getvalue())
    elif copy or not _link(source, target):
        files.write(target, lambda part: shutil.copyfile(source, part))


def _link(source: Path, target: Path) -> bool:
    """Whether the system has made a link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.symlink_to(Path(os.path.abspath(source)))
    except OSError:  # a file system without links, or a user without the right
        return False
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """Where classes, pictures and labels lie.

    Attributes:
        names: Class names.
        parts: Folders or lists of pictures by part; empty where nothing says.
        labels: Folder of label files that was given; None where pictures lead to theirs.
        keypoints: Whether points follow the box in each line.
    """

    names: list[str]
    parts: Mapping[str, tuple[Path, ...]]
    labels: Path | None = None
    keypoints: bool = False


def is_yolo(source: Path) -> bool:
    """Whether a path may be a data set of this kind."""
    if source.is_dir():
        return lists_classes(source) or _has_labels(source)
    return source.suffix.lower() in (".yaml", ".yml")


def lists_classes(folder: Path) -> bool:
    """Whether the names of label files lie in a folder."""
    return _yaml_in(folder) is not None or _class_list(folder) is not None


def read_yolo(source: Path, images: Path | None = None) -> Converted:
    """Reads a data set by its `data.yaml`, or by a folder of label files with a list of classes near.

    Pictures lead to their labels: `images` becomes `labels` in their path, or the file lies beside them, or in the
    folder that was given. One without a file holds no objects.

    Args:
        source: `data.yaml`, or a folder.
        images: Folder of the pictures: of several parts only what lies there is read. As the data set says if not
            given.

    Raises:
        FileNotFoundError: Pictures are missing.
        ValueError: There is no list of classes, no picture has a label file, or a line cannot be meant; it is named.
    """
    layout = _of_yaml(source) if source.is_file() else _of_folder(source)
    pictures = _pictures(source, layout, images)
    collector, used = Collector(source=source, form="YOLO", names=list(layout.names)), set[Path]()
    for picture in pictures:
        size = size_of(picture.path)
        collector.picture(picture.file, size)
        labels = _labels_of(picture, layout.labels)
        if labels is None:
            collector.notes.add("pictures without a label file hold no objects", picture.file)
            continue
        used.add(labels)
        for line, text in enumerate(read_text(labels).splitlines(), start=1):
            if text.strip():
                collector.listed += 1
                _read_line(text.split(), f"{labels}:{line}", layout, size, collector)
    if not used:
        looked = "images/ to labels/, beside them" + (f", in {layout.labels}" if layout.labels else "")
        raise ValueError(f"none of {len(pictures)} pictures of {source} has a label file (looked from {looked})")
    for folder in {path.parent for path in used}:
        for path in sorted(folder.glob("*.txt")):
            if path not in used and path.name.lower() not in NO_LABELS:
                collector.notes.add("label files without a picture left out", path.name)
    return collector.finish()


def _read_line(words: Sequence[str], where: str, layout: _Layout, size: tuple[int, int], collector: Collector) -> None:
    values = [number(word, where, "a value") for word in words]
    label = int(values[0])
    if label != values[0] or not 0 <= label < len(layout.names):
        raise ValueError(f"{where}: its class is {words[0]}, but there are {len(layout.names)} names, counted from 0")
    shares = values[1:5] if layout.keypoints else values[1:]
    box = len(shares) in (4, 5)  # the fifth is a score
    if not box and (len(shares) < 6 or len(shares) % 2):
        raise ValueError(
            f"{where} holds {len(words)} values; a box has 5 (class, middle x, y, width, height), a polygon 7 or more "
            "(class, x, y, x, y, ...)"
        )
    shares = shares[:4] if box else shares
    if max(shares) > 1 + SLACK or min(shares) < -SLACK:
        raise ValueError(f"{where}: its values are not in [0, 1]; YOLO's are shares of the picture, are these pixels?")
    height, width = size
    if box:
        x, y, w, h = shares
        corners = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
        collector.add(layout.names[label], where, box=corners)
    else:
        points = [share * (height if place % 2 else width) for place, share in enumerate(shares)]
        collector.add(layout.names[label], where, polygons=[points])


def _labels_of(picture: FoundPicture, labels: Path | None) -> Path | None:
    """The label file of a picture."""
    path = Path(os.path.abspath(picture.path))
    candidates = [one.with_suffix(".txt") for one in _swapped(path, "images", "labels")]
    if labels is not None:
        candidates += [(labels / picture.file).with_suffix(".txt"), labels / f"{path.stem}.txt"]
    candidates.append(path.with_suffix(".txt"))
    return next((lies for one in candidates if (lies := as_stored(one)).is_file()), None)


def _swapped(path: Path, old: str, new: str) -> list[Path]:
    """The path with the last folder of a name called otherwise; nothing where none is."""
    parts = list(path.parts)
    places = [place for place, part in enumerate(parts) if part == old]
    if not places:
        return []
    parts[places[-1]] = new
    return [Path(*parts)]


def _pictures(source: Path, layout: _Layout, images: Path | None) -> list[FoundPicture]:
    """The pictures of a data set; those of its parts that lie in the folder that was asked for."""
    parts = [path for paths in layout.parts.values() for path in paths if path.exists()]
    if images is None:
        if layout.labels is not None and not parts:
            lies = Path(os.path.abspath(layout.labels))
            beside = [*_swapped(lies, "labels", "images"), layout.labels]
            parts = [next(path for path in beside if path.is_dir())]
        if not parts:
            said = [str(path) for paths in layout.parts.values() for path in paths]
            raise FileNotFoundError(f"no pictures of {source} are there (it names {', '.join(said) or 'none'})")
        return list(find_pictures([one for part in parts for one in _listed(part)]))
    everything = list(find_pictures(images))
    own = {os.path.abspath(one.path) for part in parts for one in find_pictures(_listed(part))} if parts else set()
    chosen = [one for one in everything if os.path.abspath(one.path) in own]
    return chosen or everything  # a data set that was moved still names its old place


def _listed(part: Path) -> list[Path]:
    """A folder of pictures, or the pictures of a list."""
    if part.suffix.lower() != ".txt":
        return [part]
    lines = [line.strip() for line in read_text(part).splitlines() if line.strip()]
    return [_resolve(part.parent, line) for line in lines]


def _of_yaml(path: Path) -> _Layout:
    try:
        held = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML ({str(error).splitlines()[0]}); was it edited?") from error
    if not isinstance(held, dict) or not isinstance(held.get("names"), list | dict) or not held["names"]:
        raise ValueError(f'{path} holds no "names"; a data.yaml of YOLO lists its classes there')
    names, count = _names(held["names"], path), held.get("nc")
    if isinstance(count, int) and count != len(names):
        raise ValueError(f'{path}: "nc" is {count}, but there are {len(names)} names')
    root = path.parent / str(held.get("path") or "")
    root = root if root.is_dir() else path.parent
    given = {part: held[part] for part in PARTS if held.get(part)}
    parts = {
        part: tuple(_resolve(root, str(one)) for one in (value if isinstance(value, list) else [value]))
        for part, value in given.items()
    }
    return _Layout(names=names, parts=parts, keypoints=bool(held.get("kpt_shape")))


def _names(given: Any, path: Path) -> list[str]:
    rows = dict(enumerate(given)) if isinstance(given, list) else given
    if sorted(map(str, rows)) != sorted(map(str, range(len(rows)))):
        raise ValueError(f'{path}: "names" are numbered {sorted(rows)[:5]} ..., expected 0 to {len(rows) - 1}')
    names = [rows[key] for key in sorted(rows, key=int)]
    wrong = next((name for name in names if not isinstance(name, str | int) or isinstance(name, bool)), "")
    if wrong != "":
        raise ValueError(f'{path}: YAML reads one of the "names" as {wrong!r}, no text; put it in quotes')
    return [str(name) for name in names]


def _resolve(root: Path, entry: str) -> Path:
    """A path of a data set; exporters write "../train/images" and "data/train" for what lies in the root."""
    for shortened in (entry, entry.removeprefix("../"), entry.removeprefix("data/")):
        if (root / shortened).exists():
            return root / shortened
    return root / entry


def _of_folder(folder: Path) -> _Layout:
    for near in (folder, folder.parent, folder.parent.parent):
        if (table := _yaml_in(near)) is not None:
            layout = _of_yaml(table)
            if near == folder:
                return layout
            return _Layout(names=layout.names, parts={}, labels=folder, keypoints=layout.keypoints)
        if (classes := _class_list(near)) is not None:
            lines = [line.strip() for line in read_text(classes).splitlines()]
            names = [line for line in lines if line]
            return _Layout(names=names, parts={}, labels=folder / "labels" if (folder / "labels").is_dir() else folder)
    raise ValueError(f"{folder} has label files but no list of classes; put data.yaml or classes.txt beside them")


def _yaml_in(folder: Path) -> Path | None:
    found = sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))
    preferred = [path for path in found if path.stem in ("data", "dataset")] or found
    return next((path for path in preferred if "names" in read_text(path)), None)


def _class_list(folder: Path) -> Path | None:
    return next((folder / name for name in CLASS_LISTS if (folder / name).is_file()), None)


def _has_labels(folder: Path) -> bool:
    return any(path.name.lower() not in NO_LABELS for path in folder.glob("*.txt"))
