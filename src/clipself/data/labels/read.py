"""The door of `--annotations`: what of another tool lies at a path, read as a COCO instances file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from clipself.data.labels.converted import Converted
from clipself.data.labels.cvat import is_cvat, read_cvat
from clipself.data.labels.label_studio import read_label_studio
from clipself.data.labels.labelme import is_labelme, read_labelme
from clipself.data.labels.voc import is_voc, read_voc
from clipself.data.labels.yolo import is_yolo, read_yolo

LabelReader = Callable[[Path, Path | None], Converted]
"""(file or folder, folder of pictures) -> what it holds."""

READERS: Final[Mapping[str, tuple[Callable[[Path], bool], LabelReader]]] = {
    "cvat": (is_cvat, read_cvat),
    "labelme": (is_labelme, read_labelme),
    "voc": (is_voc, read_voc),
    "yolo": (is_yolo, read_yolo),
}
"""Kind -> whether a path is of it, and its reader; the first that knows a path reads it."""

JSON_READERS: Final[Mapping[str, Callable[..., Converted]]] = {
    "labelme": read_labelme,
    "label-studio": read_label_studio,
}
"""Kind of a parsed JSON file -> (file, folder of pictures, value=) -> what it holds."""


NO_JSON: Final[Mapping[str, str]] = {
    ".zip": "an archive; unpack it and pass the JSON in it", ".tar": "an archive; unpack it and pass the JSON in it",
    ".csv": "a table of some tool; convert it to COCO's JSON", ".tsv": "a table; convert it to COCO's JSON",
    ".parquet": "a table of columns; convert it to COCO's JSON", ".xlsx": "a spreadsheet; convert it to COCO's JSON",
    ".jsonl": "a JSON object a line; join them to COCO's JSON",
    ".ndjson": "a JSON object a line; join them to COCO's JSON",
    ".pkl": "Python's pickle, which is never opened; save it as COCO's JSON",
    ".record": "TensorFlow's records; convert them to COCO's JSON",
    ".tfrecord": "TensorFlow's records; convert them to COCO's JSON",
}  # fmt: skip
"""Suffix -> what it is that is often handed over as labels, and what to do."""


def read_path(source: Path, images: Path | None = None) -> Converted | None:
    """What a path that is no JSON holds; None for a file of JSON.

    Args:
        source: A folder, XML, YAML or list of a split.
        images: Folder of the pictures.

    Raises:
        ValueError: It is a folder of no known kind, or something in it cannot be meant.
        FileNotFoundError: Its pictures are missing.
    """
    for place in (source, source / "labels"):
        for knows, read in READERS.values():
            if knows(place):
                return read(place, images)
    if not source.is_dir():
        if source.is_file() and source.suffix.lower() in NO_JSON:
            raise ValueError(f"{source} is {NO_JSON[source.suffix.lower()]}")
        return None
    there = next((file for kind in ("json", "xml") for file in sorted(source.glob(f"*.{kind}"))), None)
    if there is not None and there.suffix == ".xml":
        read_cvat(there, images)  # says what it is, unless it is CVAT's
    also = "" if there is None else f", such as {there}, which lies there"
    raise ValueError(
        f"{source} is a folder of no kind that is known{also}; pass a COCO JSON, YOLO's data.yaml or folder of label "
        "files, a folder of labelme files or of Pascal VOC's XMLs, Label Studio's JSON, or CVAT's annotations.xml"
    )


def read_value(kind: str, source: Path, images: Path | None, value: Any) -> Converted | None:
    """A parsed JSON file of another tool; None where its kind is none of theirs."""
    reader = JSON_READERS.get(kind)
    return None if reader is None else reader(source, images, value=value)
