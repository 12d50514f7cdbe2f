"""Pascal VOC's XML, a file a picture, as VOC2007 and VOC2012 have it and LabelImg, Roboflow and CVAT export it."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from clipself.data.coco.report import EXAMPLES, Notes
from clipself.data.images.formats import SUFFIXES
from clipself.data.images.names import OwnStems
from clipself.data.labels.converted import Collector, Converted, below, clean_file, number, whole_size
from clipself.data.labels.objects import Export, LabelledObject, LabelledPicture
from clipself.data.labels.xml import root_tag, walk_xml
from clipself.data.labels.yolo import lists_classes, place_picture
from clipself.files import Together, read_text

LABELS: Final = "Annotations"
PICTURES: Final = "JPEGImages"
LOOKED_AT: Final = 20
"""Files of a folder that tell whether it is of this kind."""
FLAGS: Final[Mapping[str, bool]] = {
    "": False, "0": False, "false": False, "no": False, "unspecified": False, "1": True, "true": True, "yes": True,
}  # fmt: skip
"""What stands for no and yes."""
CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")


def write_voc(export: Export, out: Path) -> Path:
    """`Annotations/`, `JPEGImages/` (links, or copies) and `ImageSets/Main/trainval.txt` in a folder; returns it.

    Boxes alone. Corners are whole pixels from 1, both of them inside the object, as the development kit says; each
    lies at the edge that is nearest.
    """
    own, stems = OwnStems(), list[str]()
    with Together() as files:
        for picture in export:
            file = own(picture.file)
            stems.append(str(PurePosixPath(file).with_suffix("")))
            files.write_text((out / LABELS / file).with_suffix(".xml"), _annotation(picture, file, export.names))
            place_picture(picture.path, out / PICTURES / file, files, copy=export.copy)
        files.write_text(out / "ImageSets" / "Main" / "trainval.txt", "".join(f"{stem}\n" for stem in stems))
    return out


def _annotation(picture: LabelledPicture, file: str, names: Sequence[str]) -> str:
    (height, width), name = picture.size, PurePosixPath(file).name
    objects = "".join(_written(one, names[one.label], picture.size) for one in picture.objects)
    return (
        f"<annotation>\n  <folder>{PICTURES}</folder>\n  <filename>{escape(name)}</filename>\n  <size>\n"
        f"    <width>{width}</width>\n    <height>{height}</height>\n    <depth>3</depth>\n  </size>\n"
        f"  <segmented>0</segmented>\n{objects}</annotation>\n"
    )


def _written(one: LabelledObject, name: str, size: tuple[int, int]) -> str:
    (left, top), (right, bottom) = (
        tuple(math.floor(value + 0.5) for value in pair) for pair in (one.box[:2], one.box[2:])
    )
    left, top = min(max(left, 0), size[1] - 1), min(max(top, 0), size[0] - 1)
    corners = left + 1, top + 1, max(min(right, size[1]), left + 1), max(min(bottom, size[0]), top + 1)
    box = "".join(f"      <{key}>{value}</{key}>\n" for key, value in zip(CORNERS, corners, strict=True))
    return (
        f"  <object>\n    <name>{escape(name)}</name>\n    <pose>Unspecified</pose>\n    <truncated>0</truncated>\n"
        f"    <difficult>0</difficult>\n    <bndbox>\n{box}    </bndbox>\n  </object>\n"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Object:
    name: str
    corners: tuple[float, ...]
    difficult: bool
    parts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Labels:
    """What one file holds."""

    filename: str
    size: tuple[int, int] | None
    objects: list[_Object]


def is_voc(source: Path) -> bool:
    """Whether a path is a file of this kind, a list of some, or a folder that holds them at any depth."""
    if not source.is_dir():
        if not source.is_file():
            return False
        if source.suffix.lower() == ".txt":
            return _labels_of_list(source) is not None
        return source.suffix.lower() == ".xml" and root_tag(source) == "annotation"
    if (source / LABELS).is_dir() and _files_in(source / LABELS):
        return True
    return not lists_classes(source) and any(
        root_tag(path) == "annotation" for path in islice(_files_in(source), LOOKED_AT)
    )


def read_voc(source: Path, images: Path | None = None) -> Converted:
    """Reads a folder of files, the files of a split, or one.

    Corners are the outermost pixels of an object and are counted from 1, as the VOC development kit says ("the top-left
    pixel in the image has coordinates (1, 1)") and LabelImg writes; they become edges (xmin - 1, ymin - 1, xmax, ymax),
    by which 1 to W is the whole width, as in detectron2. Data in which a left or upper corner is below 1 cannot be
    counted so: it holds edges, which are taken as they are.

    Objects that are `difficult` excuse detections as COCO's crowds do, and are not learned from. Parts of objects
    (head, hand, foot) are no objects. Names are sorted. A picture is found by the name of its XML, else by the
    `filename` in it.

    Args:
        source: Folder with `Annotations`, or any with such files at any depth; `ImageSets/Main/val.txt` or another
            list; or one file.
        images: Folder of the pictures; `JPEGImages` if it is there, else beside the files, if not given.

    Raises:
        FileNotFoundError: A file of a list is missing.
        ValueError: Files are no valid XML, or an object cannot be meant; file and object are named.
    """
    collector = Collector(source=source, form="Pascal VOC")
    root, files = _files(source)
    held = _parse(source, files, collector.notes)
    for name in sorted({one.name for labels in held.values() for one in labels.objects}):
        collector.declare(name)
    first = _first_pixel(held, collector.notes)
    pictures = _Pictures(root, images, collector.notes)
    for path, labels in held.items():
        collector.picture(pictures.find(path, labels.filename), labels.size)
        for place, one in enumerate(labels.objects):
            where = f"{path}: object [{place}]"
            collector.listed += 1
            if one.difficult:
                collector.notes.add(
                    "difficult objects are crowds: not looked for, not learned from", f"{path.name} [{place}]"
                )
            if one.parts:
                collector.notes.add("objects have parts, which are left out", f"{path.name} [{place}]")
            left, top, right, bottom = one.corners
            collector.add(one.name, where, box=(left - first, top - first, right, bottom), crowd=one.difficult)
    return collector.finish()


def _files_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.xml")) if not path.name.startswith(".")]


def _labels_of_list(path: Path) -> Path | None:
    """The folder of the files that a list in ImageSets/Main names."""
    near = (folder / LABELS for folder in (path.parent, *path.absolute().parents[1:3]))
    return next((folder for folder in near if folder.is_dir() and _files_in(folder)), None)


def _files(source: Path) -> tuple[Path, list[Path]]:
    """The folder of the files, and the files."""
    if source.is_dir():
        root = source / LABELS if (source / LABELS).is_dir() else source
        return root, _files_in(root)
    if source.suffix.lower() != ".txt":
        return source.parent, [source]
    root = _labels_of_list(source) or source.parent
    lines = [line.strip().strip('"') for line in read_text(source).splitlines()]
    files = [root / f"{line}.xml" for line in dict.fromkeys(lines) if line]
    missing = [path.stem for path in files if not path.is_file()]
    if missing and all(stem.split()[-1] in ("-1", "0", "1") for stem in missing):
        raise ValueError(
            f"{source} says of one class which pictures show it; pass the list of a split, such as val.txt"
        )
    if missing or not files:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(files)} names in {source} have no XML in {root} ({_some(missing)})"
        )
    return root, files


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")


def _parse(source: Path, files: Sequence[Path], notes: Notes) -> dict[Path, _Labels]:
    held, broken = dict[Path, _Labels](), dict[str, ValueError]()
    for path in files:
        try:
            *_, root = walk_xml(path)
        except ValueError as error:
            broken[path.name] = error
            continue
        if root.tag == "annotation":
            held[path] = _read_labels(root, path)
        else:
            notes.add("XML files of another kind left out", path.name)
    if broken:
        first = next(iter(broken.values()))
        said = f"{len(broken)} of the {len(files)} files of {source} cannot be read ({_some(list(broken))}): "
        raise ValueError(f"{said if len(broken) > 1 else ''}{first}") from first
    if not held:
        raise ValueError(f"{source} holds no XML of one picture (<annotation>); is it of Pascal VOC?")
    return held


def _first_pixel(held: Mapping[Path, _Labels], notes: Notes) -> float:
    """What the first pixel is called: 1, or 0 where corners show it."""
    edges = [path for path, labels in held.items() if any(min(one.corners[:2]) < 1 for one in labels.objects)]
    for path in edges:
        notes.add("files have corners below 1, so that all are read as edges, not as pixels from 1", path.name)
    return 0.0 if edges else 1.0


def _read_labels(root: Element, path: Path) -> _Labels:
    size = root.find("size")
    shape = None if size is None else whole_size(size.findtext("height"), size.findtext("width"), str(path))
    objects = [_read_object(one, f"{path}: object [{place}]") for place, one in enumerate(root.findall("object"))]
    return _Labels(filename=clean_file((root.findtext("filename") or "").strip()), size=shape, objects=objects)


def _read_object(one: Element, where: str) -> _Object:
    name, box = (one.findtext("name") or "").strip(), one.find("bndbox")
    if not name:
        raise ValueError(f"{where} has no <name>; every object needs the name of its class")
    if box is None:
        raise ValueError(f"{where} ({name}) has no <bndbox>; only boxes are read of Pascal VOC's XML")
    left, top, right, bottom = corners = tuple(number(box.findtext(key), f"{where} ({name})", key) for key in CORNERS)
    if right < left or bottom < top:
        raise ValueError(f"{where} ({name}): its corners {', '.join(f'{value:g}' for value in corners)} are swapped")
    said = (one.findtext("difficult") or "").strip().lower()
    if said not in FLAGS:
        raise ValueError(f"{where} ({name}): <difficult> is {said!r:.20}, expected 0 or 1")
    return _Object(name=name, corners=corners, difficult=FLAGS[said], parts=len(one.findall("part")))


class _Pictures:
    """Finds the pictures of label files.

    Args:
        root: Folder of the labels.
        images: Folder of the pictures; None is `JPEGImages` beside the labels if it is there, else that of the labels.
        notes: Takes what is noticed.
    """

    def __init__(self, root: Path, images: Path | None, notes: Notes) -> None:
        own = _swapped(root)
        self.root, self.images = root, images or (own if own.is_dir() else root)
        self.notes = notes
        self._listed: dict[str, dict[str, str]] = {}

    def find(self, path: Path, filename: str) -> str:
        """The picture of a label file, below the folder of pictures; where it would lie if it is not there."""
        folders = self._folders(path)
        named = PurePosixPath(filename).name
        same = path.stem in (named, PurePosixPath(named).stem)
        for name in (named, path.stem) if same else (path.stem, named):
            for folder in folders:
                file = self._list(folder).get(name)
                if file is not None:
                    if not same and named and name == path.stem:
                        self.notes.add("XML files that name another picture than that of their own name", path.name)
                    return _join(folder, file)
        return _join(folders[0], named if same and PurePosixPath(named).suffix else f"{path.stem}.jpg")

    def _folders(self, path: Path) -> list[str]:
        """Where a picture may lie below the folder of pictures: in the layout of VOC, beside the XML, as the XML."""
        inside = [below(place, self.images) for place in (_swapped(path.parent), path.parent)]
        return [*(one for one in inside if one is not None), below(path.parent, self.root) or ".", "."]

    def _list(self, folder: str) -> dict[str, str]:
        """Names of pictures with suffix and without -> the file."""
        if folder not in self._listed:
            there = sorted(os.listdir(self.images / folder)) if (self.images / folder).is_dir() else []
            files = [name for name in there if os.path.splitext(name)[1].lower() in SUFFIXES]
            self._listed[folder] = {os.path.splitext(name)[0]: name for name in reversed(files)} | dict(
                zip(files, files, strict=True)
            )
        return self._listed[folder]


def _swapped(path: Path) -> Path:
    """The path with `Annotations` called `JPEGImages`."""
    return Path(*(PICTURES if part == LABELS else part for part in path.parts))


def _join(folder: str, file: str) -> str:
    return file if folder == "." else f"{folder}/{file}"
