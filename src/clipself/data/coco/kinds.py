"""Which kind of COCO-like file it is, told by what its rows hold, and the sentence for the wrong one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from clipself.data.coco.report import Notes
from clipself.data.labels.read import read_path, read_value
from clipself.files import read_json
from clipself.ops.run_lengths import shorten

LOOKED_AT: Final = 100
"""Rows that tell the kind; a damaged first one does not hide it."""

KINDS: Final[Mapping[str, str]] = {
    "instances": "an instances file",
    "panoptic": "a panoptic file (its rows hold segments_info)",
    "captions": "a captions file (its rows hold a caption)",
    "images": "a list of images without annotations",
    "results": "a list of results or proposals",
    "masks": "a list of masks",
    "empty": "an empty list",
    "labelme": "a labelme file of one picture",
    "label-studio": "tasks of Label Studio",
    "via": "a VIA project",
    "geojson": "a GeoJSON file",
    "unknown": "no COCO file of any kind",
}
"""Kind -> what it is called."""

FOREIGN: Final[Mapping[str, str]] = {"shapes": "labelme", "_via_img_metadata": "via", "features": "geojson"}
"""Key of a file of another tool -> its kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A file that was parsed, not yet checked.

    Attributes:
        source: What messages call it.
        kind: Row of `KINDS`.
        value: What it holds.
        form: Whose format it was converted from; empty where it is COCO's.
        listed: Rows that it lists, where some were left out while it was converted.
        notes: What was noticed on the way.
    """

    source: str
    kind: str
    value: Any
    form: str = ""
    listed: int | None = None
    notes: Notes = field(default_factory=Notes)

    def require(self, *kinds: str, wanted: str) -> "Opened":
        """Refuses a file of another kind.

        Args:
            kinds: Those that will do.
            wanted: What to pass, in words.

        Raises:
            ValueError: It is of none of them.
        """
        if self.kind in kinds:
            return self
        lacking = ""
        if self.kind == "unknown":
            lacks = [f'"{key}"' for key in ("images", "annotations") if not _has(self.value, key)]
            lacking = f"; it lacks {' and '.join(lacks)}" if lacks else "; its rows hold nothing that is known"
        raise ValueError(f"{self.source} is {KINDS[self.kind]}{lacking}; pass {wanted}")


def open_coco(
    source: "str | Path | Opened",
    *,
    hook: Callable[[dict[str, Any]], Any] | None = None,
    images: str | Path | None = None,
) -> Opened:
    """Parses a file and tells its kind; what was opened before stays as it is.

    Labels of YOLO, labelme, Label Studio, CVAT and Pascal VOC are read as instances files.

    Args:
        source: The file, or a folder of labels.
        hook: Sees each object of the JSON as soon as it is parsed, to make it smaller.
        images: Folder of the pictures, by which other tools' labels are found and their pictures called.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or labels of another tool cannot be meant.
    """
    if isinstance(source, Opened):
        return source
    path, pictures = Path(source), None if images is None else Path(images)
    converted = read_path(path, pictures)
    if converted is None:
        value = read_json(source, hook=hook)
        kind = kind_of(value)
        converted = read_value(kind, path, pictures, value)
        if converted is None:
            return Opened(source=str(source), kind=kind, value=value)
    return Opened(
        source=str(source), kind="instances", value=converted.value, form=converted.form, listed=converted.listed,
        notes=converted.notes,
    )  # fmt: skip


def kind_of(value: Any) -> str:
    """Row of `KINDS` for a parsed file."""
    if isinstance(value, list):
        held = _keys(value)
        if held & {"data", "annotation_id", "lead_time"} and not held & {"bbox", "segmentation", "segments_info"}:
            return "label-studio"
        for kind, keys in (("panoptic", {"segments_info"}), ("captions", {"caption"}), ("results", {"bbox"})):
            if held & keys:
                return kind
        return "masks" if "segmentation" in held else "unknown" if value else "empty"
    if not isinstance(value, Mapping):
        return "unknown"
    for key, kind in FOREIGN.items():
        if key in value:
            return kind
    rows = value.get("annotations")
    held = _keys(rows) if isinstance(rows, list) else set()
    if "segments_info" in held:
        return "panoptic"
    if held & {"bbox", "segmentation", "category_id"}:
        return "instances"
    if held & {"caption", "captions"}:
        return "captions"
    if "images" in value:
        return "instances" if "annotations" in value or "categories" in value else "images"
    return "unknown"


def rows_of(opened: Opened, key: str) -> list[Any]:
    """A list of a file's.

    Raises:
        ValueError: It has none under that key.
    """
    rows = opened.value.get(key) if isinstance(opened.value, Mapping) else None
    if not isinstance(rows, list):
        raise ValueError(f'{opened.source}: "{key}" is {shorten(rows)}, expected a list')
    return rows


def _keys(rows: list[Any]) -> set[str]:
    return {str(key) for row in islice(rows, LOOKED_AT) if isinstance(row, Mapping) for key in row}


def _has(value: Any, key: str) -> bool:
    return isinstance(value, Mapping) and key in value
