"""CVAT's XML for images, version 1.1: written to upload into a task; read as it is exported, tracks of videos too."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from clipself.data.labels.converted import Collector, Converted, clean_file, find_below, number, turned_box, whole_size
from clipself.data.labels.objects import Export, LabelledObject
from clipself.data.labels.xml import root_tag, walk_xml
from clipself.files import write_atomically
from clipself.ops.run_lengths import encode_mask

SHAPES: Final = ("box", "polygon", "mask", "polyline", "points", "ellipse", "cuboid", "skeleton", "tag")


def write_cvat(export: Export, out: Path) -> Path:
    """`annotations.xml`, whose path is returned: upload it into a task of these pictures as "CVAT 1.1"."""

    def fill(part: Path) -> None:
        with part.open("w", encoding="utf-8") as stream:
            stream.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
            stream.write("  <meta>\n    <task>\n      <labels>\n")
            for name in export.names:
                stream.write(f"        <label>\n          <name>{escape(name)}</name>\n          <attributes/>\n")
                stream.write("        </label>\n")
            stream.write("      </labels>\n    </task>\n  </meta>\n")
            for place, picture in enumerate(export):
                height, width = picture.size
                stream.write(
                    f'  <image id="{place}" name={quoteattr(picture.file)} width="{width}" height="{height}">\n'
                )
                for one in picture.objects:
                    stream.write(f"    {_shape(one, export)}\n")
                stream.write("  </image>\n")
            stream.write("</annotations>\n")

    return write_atomically(out / "annotations.xml", fill)


def _shape(one: LabelledObject, export: Export) -> str:
    ring, common = one.polygon(export.tolerance), f'label={quoteattr(export.names[one.label])} source="auto"'
    if ring is None:
        corners = " ".join(
            f'{key}="{value:.2f}"' for key, value in zip(("xtl", "ytl", "xbr", "ybr"), one.box, strict=True)
        )
        return f'<box {common} occluded="0" {corners} z_order="0"></box>'
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist())
    return f'<polygon {common} occluded="0" points="{points}" z_order="0"></polygon>'


def is_cvat(source: Path) -> bool:
    """Whether a path is such a file, or the folder of one."""
    if source.is_dir():
        return (source / "annotations.xml").is_file()
    return source.suffix.lower() == ".xml" and source.is_file() and root_tag(source) != "annotation"


def read_cvat(source: Path, images: Path | None = None) -> Converted:
    """Reads an export for images, or for a video, whose frames are then called frame_000000.PNG and so on.

    Polygons of one `group_id` and label are parts of one object. Lines, points and what has no area are left out.

    Args:
        source: `annotations.xml`, or the folder that holds it.
        images: Folder of the pictures.

    Raises:
        ValueError: The file is damaged, or a shape cannot be meant; its picture is named.
    """
    file = source / "annotations.xml" if source.is_dir() else source
    collector = Collector(source=source, form="CVAT")
    frames: dict[int, list[tuple[Element, str]]] = {}
    size: tuple[int, int] | None = None
    for element in walk_xml(file):
        if element.tag == "image":
            _read_image(element, file, images, collector)
            element.clear()
        elif element.tag == "label" and (name := (element.findtext("name") or "").strip()):
            collector.declare(name)
        elif element.tag == "original_size":
            size = whole_size(element.findtext("height"), element.findtext("width"), str(file))
        elif element.tag == "track":
            for shape in element:
                if shape.get("outside") != "1":
                    frame = int(number(shape.get("frame"), f"{file}: track {element.get('id')}", "frame"))
                    frames.setdefault(frame, []).append((shape, str(element.get("label") or "")))
    for frame in sorted(frames):
        name = f"frame_{frame:06d}.PNG"
        collector.picture(find_below(images, name, f"images/{name}", f"frame_{frame:06d}.png", name), size)
        for place, (shape, label) in enumerate(frames[frame]):
            _read_shape(shape, label, f"{file}: frame {frame}, shape [{place}]", size, collector)
    if not collector.images:
        raise ValueError(f"{file} lists no <image> and no <track>; is it an export of CVAT for images or video?")
    return collector.finish()


def _read_image(element: Element, file: Path, images: Path | None, collector: Collector) -> None:
    name = clean_file(element.get("name") or "")
    if not name or name == ".":
        raise ValueError(f"{file}: <image id={element.get('id')!r}> has no name")
    where = f"{file}: image {name}"
    size = whole_size(element.get("height"), element.get("width"), where)
    collector.picture(find_below(images, name, name.rpartition("/")[2], name), size)
    groups: dict[Any, tuple[str, str, list[list[float]]]] = {}
    for place, shape in enumerate(element):
        own, group, label = f"{where}, shape [{place}]", shape.get("group_id"), shape.get("label") or ""
        if shape.tag == "polygon" and group not in (None, "0"):
            collector.listed += (label, group) not in groups
            groups.setdefault((label, group), (label, own, []))[2].append(list(_points(shape, own)))
        else:
            _read_shape(shape, label, own, size, collector)
    for label, own, rings in groups.values():
        _require_label(label, own)
        collector.add(label, own, polygons=rings)


def _require_label(label: str, where: str) -> None:
    if not label.strip():
        raise ValueError(f"{where} has no label; every shape needs the name of its class")


def _read_shape(shape: Element, label: str, where: str, size: tuple[int, int] | None, collector: Collector) -> None:
    if shape.tag not in SHAPES:
        return
    collector.listed += 1
    _require_label(label, where)
    if shape.tag == "box":
        corners = [number(shape.get(key), where, key) for key in ("xtl", "ytl", "xbr", "ybr")]
        turn = number(shape.get("rotation") or 0, where, "rotation")
        left, top, right, bottom = corners
        middle = ((left + right) / 2, (top + bottom) / 2)
        if turn:
            collector.add(label, where, polygons=[turned_box(left, top, right, bottom, about=middle, degrees=turn)])
        else:
            collector.add(label, where, box=corners)
    elif shape.tag == "polygon":
        collector.add(label, where, polygons=[list(_points(shape, where))])
    elif shape.tag == "mask":
        collector.add(label, where, polygons=_mask(shape.attrib, size, where))
    else:
        collector.notes.add("lines, points and other shapes without an area left out", where)


def _points(shape: Element, where: str) -> Iterator[float]:
    pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";") if pair.strip()]
    if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f'{where}: its points are not of the form "x,y;x,y;x,y", three or more')
    for pair in pairs:
        yield from (number(value, where, "a point") for value in pair)


def _mask(held: Mapping[str, str], size: tuple[int, int] | None, where: str) -> dict[str, Any]:
    """Run lengths row by row inside a box, clear pixels first."""
    if size is None:
        raise ValueError(f"{where} is a mask, which needs the width and height of its picture")
    left, top, width, height = (int(number(held.get(key), where, key)) for key in ("left", "top", "width", "height"))
    lengths = [int(number(value, where, "a run length")) for value in (held.get("rle") or "").split(",")]
    if min(lengths) < 0 or sum(lengths) != width * height or left < 0 or top < 0:
        raise ValueError(f"{where}: its run lengths fill {sum(lengths)} pixels, its box has {width} x {height}")
    if top + height > size[0] or left + width > size[1]:
        raise ValueError(f"{where}: its mask does not lie in its picture of {size[1]} x {size[0]} pixels")
    values = np.zeros(len(lengths), dtype=bool)
    values[1::2] = True
    whole = np.zeros(size, dtype=bool)
    whole[top : top + height, left : left + width] = np.repeat(values, lengths).reshape(height, width)
    return encode_mask(whole)
