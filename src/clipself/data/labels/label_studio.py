"""Label Studio's tasks: what was found as predictions to correct; what was drawn, or predicted, is read back."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from clipself.data.labels.converted import Collector, Converted, clean_file, find_below, number, turned_box, whole_size
from clipself.data.labels.objects import Export, LabelledObject, LabelledPicture
from clipself.files import write_atomically, write_text
from clipself.ops.run_lengths import shorten

UPLOADED: Final = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts ahead of the names of uploaded files."""
BOXES: Final = "rectanglelabels"
POLYGONS: Final = "polygonlabels"
BRUSH: Final = "brushlabels"
ELLIPSES: Final = "ellipselabels"


def write_label_studio(export: Export, out: Path) -> Path:
    """`tasks.json` to import, whose path is returned, and `config.xml`, the labelling interface that it goes with."""

    def fill(part: Path) -> None:
        with part.open("w", encoding="utf-8") as stream:
            stream.write("[")
            for number_, picture in enumerate(export):
                stream.write((",\n" if number_ else "\n") + json.dumps(_task(picture, export), ensure_ascii=False))
            stream.write("\n]\n")

    write_text(out / "config.xml", _interface(export.names))
    return write_atomically(out / "tasks.json", fill)


def _task(picture: LabelledPicture, export: Export) -> dict[str, Any]:
    results = [_result(place, one, picture, export) for place, one in enumerate(picture.objects, start=1)]
    scores = [one.score for one in picture.objects if one.score is not None]
    prediction = {
        "model_version": export.model or "clipself",
        "score": sum(scores) / len(scores) if scores else 0.0,
        "result": results,
    }
    return {"data": {"image": export.url + quote(picture.file)}, "predictions": [prediction]}


def _result(place: int, one: LabelledObject, picture: LabelledPicture, export: Export) -> dict[str, Any]:
    height, width = picture.size
    ring = one.polygon(export.tolerance)
    kind = BOXES if ring is None else POLYGONS
    if ring is None:
        left, top, right, bottom = one.box
        value: dict[str, Any] = {
            "x": 100 * left / width,
            "y": 100 * top / height,
            "width": 100 * (right - left) / width,
            "height": 100 * (bottom - top) / height,
            "rotation": 0,
        }
    else:
        value = {"points": (ring * [100 / width, 100 / height]).tolist(), "closed": True}
    return {
        "id": f"object{place}",
        "type": kind,
        "from_name": "box" if ring is None else "polygon",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": one.score,
        "value": {**value, kind: [export.names[one.label]]},
    }


def _interface(names: tuple[str, ...]) -> str:
    labels = "\n".join(f'    <Label value="{escape(name, quote=True)}"/>' for name in names)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <RectangleLabels name="box" toName="image">\n{labels}\n  </RectangleLabels>\n'
        f'  <PolygonLabels name="polygon" toName="image">\n{labels}\n  </PolygonLabels>\n</View>\n'
    )


def read_label_studio(source: Path, images: Path | None = None, *, value: Any) -> Converted:
    """Reads exported tasks, JSON or JSON-MIN, or tasks with predictions.

    Of a task the annotation that is marked as ground truth counts, else the one that was made last and not cancelled,
    else its first prediction. Shares are in percent of the picture.

    Args:
        source: The file.
        images: Folder of the pictures.
        value: What it holds.

    Raises:
        ValueError: A task or result cannot be meant; it is named.
    """
    collector = Collector(source=source, form="Label Studio")
    for place, task in enumerate(value):
        where = f"{source}: task [{place}]"
        if not isinstance(task, Mapping):
            raise ValueError(f"{where} is no object")
        results = list(_results(task, where, collector))
        sizes = [whole_size(one.get("original_height"), one.get("original_width"), where) for _, one in results]
        known = next((size for size in sizes if size is not None), None)
        collector.picture(_file(task, where, images), known)
        for own, one in results:
            collector.listed += 1
            _read_result(one, own, known, collector)
    return collector.finish()


def _results(task: Mapping[str, Any], where: str, collector: Collector) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The results of a task that have a shape, with where they are."""
    if "data" not in task:  # JSON-MIN: under the name of the control
        for key, rows in task.items():
            for place, row in enumerate(rows if isinstance(rows, list) else ()):
                if isinstance(row, Mapping) and "original_width" in row:
                    kind = next((name for name in (BOXES, POLYGONS, BRUSH, ELLIPSES) if name in row), "")
                    yield f"{where}.{key}[{place}]", {**row, "type": kind, "value": row}
        return
    listed = _list_of(task, "annotations", where) or _list_of(task, "completions", where)
    made = [row for row in listed if isinstance(row, Mapping)]
    done = [row for row in made if not row.get("was_cancelled")]
    if len(done) > 1:
        collector.notes.add("tasks with several annotations are read by one of them", where)
    chosen = next((row for row in done if row.get("ground_truth")), done[-1] if done else None)
    part = "annotation"
    if chosen is None and not made:
        predictions = _list_of(task, "predictions", where)
        chosen, part = next((row for row in predictions if isinstance(row, Mapping)), None), "prediction"
    for place, row in enumerate(_list_of(chosen or {}, "result", f"{where}, {part}")):
        if isinstance(row, Mapping) and isinstance(row.get("value"), Mapping):
            yield f"{where}, {part} result [{place}]", row


def _list_of(held: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    value = held.get(key)
    if not isinstance(value, list | None):
        raise ValueError(f'{where}: its "{key}" is {shorten(value)}, expected a list')
    return value or ()


def _read_result(row: Mapping[str, Any], where: str, size: tuple[int, int] | None, collector: Collector) -> None:
    kind, value = str(row.get("type")), row["value"]
    names = value.get(kind)
    if kind not in (BOXES, POLYGONS):
        what = {BRUSH: "brush strokes left out; export them as COCO", ELLIPSES: "ellipses left out"}
        collector.notes.add(what.get(kind, "results without a box or polygon left out"), where)
        return
    if not isinstance(names, list) or not names:
        collector.notes.add("regions without a label left out", where)
        return
    if len(names) > 1:
        collector.notes.add("regions of several labels are read by the first", where)
    if row.get("image_rotation"):
        collector.notes.add("regions were drawn on a picture that was turned (image_rotation): look at them", where)
    if size is None:
        raise ValueError(f'{where} has no "original_width" and "original_height"; its shares are of a picture\'s size')
    height, width = size
    if kind == POLYGONS:
        given = value.get("points")
        if not isinstance(given, list) or not all(isinstance(one, list) and len(one) == 2 for one in given):
            raise ValueError(f'{where}: its "points" are not of the form [[x, y], ...]')
        ring = [number(one[axis], where, "a point") / 100 * (width, height)[axis] for one in given for axis in (0, 1)]
        collector.add(str(names[0]), where, polygons=[ring])
        return
    x, y, w, h = (number(value.get(key), where, key) / 100 for key in ("x", "y", "width", "height"))
    left, top, right, bottom = x * width, y * height, (x + w) * width, (y + h) * height
    turn = number(value.get("rotation") or 0, where, "rotation")
    if turn:
        ring = turned_box(left, top, right, bottom, about=(left, top), degrees=turn)
        collector.add(str(names[0]), where, polygons=[ring])
    else:
        collector.add(str(names[0]), where, box=(left, top, right, bottom))


def _file(task: Mapping[str, Any], where: str, images: Path | None) -> str:
    """The picture's file below the folder of pictures: addresses, upload prefixes and folders of the server go."""
    data = task.get("data", task)
    if not isinstance(data, Mapping):
        raise ValueError(f'{where}: its "data" is {shorten(data)}, expected an object')
    held = [one for key, one in data.items() if isinstance(one, str) and (key == "image" or _is_picture(one))]
    if not held:
        raise ValueError(f'{where} names no picture; expected its path or address under "data"')
    parts = urlsplit(held[0])
    local = parse_qs(parts.query).get("d")
    file = clean_file(local[0] if local else unquote(parts.path)).lstrip("/")
    name = file.rpartition("/")[2]
    stripped = UPLOADED.sub("", name)
    tails = [file.split("/", cut)[-1] for cut in range(file.count("/") + 1)]
    last = file if local else (stripped if "upload/" in file else name)
    return find_below(images, *tails, stripped, last)


def _is_picture(text: str) -> bool:
    return bool(re.search(r"\.(jpe?g|png|bmp|webp|tiff?|gif)(\?|$)", text.lower()))
