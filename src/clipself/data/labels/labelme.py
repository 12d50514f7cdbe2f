"""labelme's files, one JSON a picture, as X-AnyLabeling, ISAT's exports and Roboflow have them too."""

import base64
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from PIL import Image

from clipself.data.images.names import OwnStems
from clipself.data.labels.converted import Collector, Converted, clean_file, find_below, number, whole_size
from clipself.data.labels.objects import Export, LabelledObject
from clipself.files import Together, read_json, read_text
from clipself.ops.run_lengths import encode_mask

VERSION: Final = "5.5.0"
"""Of labelme, whose form the files have."""
AREAS: Final = ("rectangle", "polygon", "rotation", "circle", "mask")
"""Kinds of shapes that have an area; lines and points have none."""
NO_CLASSES: Final = ("__ignore__", "_background_")
"""labelme's own labels of what is no object."""


def write_labelme(export: Export, out: Path) -> Path:
    """One JSON a picture in a folder, which is returned; X-AnyLabeling reads them too, scores included."""
    own = OwnStems()
    with Together() as files:
        for picture in export:
            target = (out / own(picture.file)).with_suffix(".json")
            held: dict[str, Any] = {
                "version": VERSION,
                "flags": {},
                "shapes": [_shape(one, export) for one in picture.objects],
                "imagePath": Path(
                    os.path.relpath(os.path.abspath(picture.path), os.path.abspath(target.parent))
                ).as_posix(),
                "imageData": None,
                "imageHeight": picture.size[0],
                "imageWidth": picture.size[1],
            }
            files.write_text(target, json.dumps(held, ensure_ascii=False, indent=2) + "\n")
        files.write_text(out / "labels.txt", "".join(f"{name}\n" for name in export.names))
    return out


def _shape(one: LabelledObject, export: Export) -> dict[str, Any]:
    ring = one.polygon(export.tolerance)
    points = [[one.box[0], one.box[1]], [one.box[2], one.box[3]]] if ring is None else ring.tolist()
    return {
        "label": export.names[one.label],
        "score": one.score,
        "points": points,
        "group_id": None,
        "description": "",
        "difficult": False,
        "shape_type": "rectangle" if ring is None else "polygon",
        "flags": {},
        "attributes": {},
        "mask": None,
    }


def is_labelme(source: Path) -> bool:
    """Whether a folder holds such files."""
    if not source.is_dir():
        return False
    first = next((path for path in sorted(source.rglob("*.json")) if not path.name.startswith(".")), None)
    return first is not None and '"shapes"' in read_text(first)


def without_pictures(row: dict[str, Any]) -> dict[str, Any]:
    """Forgets the picture that a file may hold in text, while it is parsed."""
    row.pop("imageData", None)
    return row


def read_labelme(source: Path, images: Path | None = None, *, value: Any = None) -> Converted:
    """Reads a folder of files, or one.

    Shapes of one `group_id` and label are parts of one object. Lines and points have no area and are left out. Names
    are in the order of `labels.txt` where there is one, else sorted.

    Args:
        source: Folder, searched at any depth, or file.
        images: Folder of the pictures; where the files say if not given.
        value: Of a file that was parsed already.

    Raises:
        ValueError: A shape cannot be meant; file and shape are named.
    """
    root = source if source.is_dir() else source.parent
    files = (
        [path for path in sorted(root.rglob("*.json")) if not path.name.startswith(".")] if root == source else [source]
    )
    held: dict[Path, Any] = {
        path: value if value is not None else read_json(path, hook=without_pictures) for path in files
    }
    collector = Collector(source=source, form="labelme", names=_classes(root, held))
    for path, one in held.items():
        if not isinstance(one, Mapping) or not isinstance(one.get("shapes"), list):
            collector.notes.add('JSON files without "shapes" left out', path.name)
            continue
        size = whole_size(one.get("imageHeight"), one.get("imageWidth"), str(path))
        collector.picture(_picture(path, one, root, images), size)
        _read_shapes(path, one["shapes"], size, collector)
    if not collector.images:
        raise ValueError(f'{source} holds no file with "shapes"; is it of labelme?')
    return collector.finish()


def _classes(root: Path, held: Mapping[Path, Any]) -> list[str]:
    listed = root / "labels.txt"
    if listed.is_file():
        names = [line.strip() for line in read_text(listed).splitlines()]
        return [name for name in names if name and name not in NO_CLASSES]
    rows = [one["shapes"] for one in held.values() if isinstance(one, Mapping) and isinstance(one.get("shapes"), list)]
    said = {str(row["label"]) for shapes in rows for row in shapes if isinstance(row, Mapping) and "label" in row}
    return sorted(said - {*NO_CLASSES})


def _picture(path: Path, held: Mapping[str, Any], root: Path, images: Path | None) -> str:
    """The file of a picture: where the JSON says, beside it, or of its name below the folder of pictures."""
    said = held.get("imagePath")
    named = clean_file(said) if isinstance(said, str) and said.strip() else f"{path.stem}.jpg"
    folder = Path(os.path.relpath(path.parent, root))
    base = images or root
    lies = Path(os.path.normpath(path.parent / named))
    from_here = Path(os.path.relpath(os.path.abspath(lies), os.path.abspath(base))).as_posix()
    beside = PurePosixPath(folder.as_posix()) / PurePosixPath(named).name
    return find_below(base, from_here, str(beside), PurePosixPath(named).name)


@dataclass(kw_only=True)
class _Group:
    """Shapes that are one object: `rings` are polygons, or two corners of a rectangle."""

    label: str
    where: str
    rings: list[list[float]] = field(default_factory=list)
    boxes_alone: bool = True


def _read_shapes(path: Path, shapes: list[Any], size: tuple[int, int] | None, collector: Collector) -> None:
    groups: dict[tuple[str, str], _Group] = {}
    for place, shape in enumerate(shapes):
        where = f"{path}: shapes[{place}]"
        collector.listed += 1
        if not isinstance(shape, Mapping) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
            raise ValueError(f'{where} has no "label"; every shape needs the name of its class')
        if shape["label"] in NO_CLASSES:
            collector.notes.add(f"shapes that are no object by their label ({', '.join(NO_CLASSES)}) left out", where)
            continue
        kind = shape.get("shape_type") or "polygon"
        if kind not in AREAS:
            collector.notes.add("lines and points left out", where)
            continue
        if kind == "mask":
            collector.add(shape["label"], where, polygons=_mask(shape, size, where))
            continue
        points = list(_points(shape.get("points"), where))
        ring = _ring(kind, points, where)
        group, named = _Group(label=shape["label"], where=where), shape.get("group_id")
        if named is not None:
            group = groups.setdefault((shape["label"], str(named)), group)
        group.rings.append(ring)
        group.boxes_alone &= kind == "rectangle"
        if named is None:
            _add(group, collector)
    for group in groups.values():
        _add(group, collector)


def _add(group: _Group, collector: Collector) -> None:
    """The box around rectangles, the polygons of other shapes."""
    collector.listed -= len(group.rings) - 1
    if len(group.rings) > 1:
        collector.notes.add("shapes of one group and label are one object", group.where)
    if group.boxes_alone:
        xs, ys = ([value for ring in group.rings for value in ring[axis::2]] for axis in (0, 1))
        collector.add(group.label, group.where, box=(min(xs), min(ys), max(xs), max(ys)))
    else:
        collector.add(group.label, group.where, polygons=[_four_corners(ring) for ring in group.rings])


def _four_corners(ring: list[float]) -> list[float]:
    """A rectangle by two of its corners as a polygon; others as they are."""
    if len(ring) != 4:
        return ring
    left, top, right, bottom = ring
    return [left, top, right, top, right, bottom, left, bottom]


def _points(given: Any, where: str) -> Iterator[tuple[float, float]]:
    if not isinstance(given, list) or not all(isinstance(one, list | tuple) and len(one) == 2 for one in given):
        raise ValueError(f'{where}: its "points" are not of the form [[x, y], ...]')
    for x, y in given:
        yield number(x, where, "x"), number(y, where, "y")


def _ring(kind: str, points: list[tuple[float, float]], where: str) -> list[float]:
    if kind == "circle" and len(points) == 2:  # the middle, and a point on the line
        (x, y), (edge_x, edge_y) = points
        radius = float(np.hypot(edge_x - x, edge_y - y))
        turns = np.linspace(0, 2 * np.pi, 36, endpoint=False)
        points = [(x + radius * float(np.cos(turn)), y + radius * float(np.sin(turn))) for turn in turns]
    least = 2 if kind == "rectangle" else 3
    if len(points) < least:
        raise ValueError(f"{where}: a {kind} of {len(points)} points, expected at least {least}")
    return [value for point in points for value in point]


def _mask(shape: Mapping[str, Any], size: tuple[int, int] | None, where: str) -> dict[str, Any]:
    """A mask that is a picture in text, laid at the first of its two points."""
    if size is None:
        raise ValueError(f'{where} is a mask, which needs the "imageHeight" and "imageWidth" of its picture')
    points = list(_points(shape.get("points"), where))
    try:
        part = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True)))) > 0
    except Exception as error:  # text that is no base64, or bytes that are no picture
        raise ValueError(f'{where}: its "mask" is no picture in base64') from error
    whole, (left, top) = np.zeros(size, dtype=bool), (round(points[0][0]), round(points[0][1]))
    if part.ndim != 2 or left < 0 or top < 0 or top + part.shape[0] > size[0] or left + part.shape[1] > size[1]:
        raise ValueError(f"{where}: its mask {part.shape} at ({left}, {top}) does not lie in its picture {size}")
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    return encode_mask(whole)
