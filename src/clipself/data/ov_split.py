"""Writes the open-vocabulary split of an official instances file: base boxes to train on, base and novel to test on."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clipself.data.detection import ClassSplit, split_classes
from clipself.data.sources import read_json
from clipself.files import write_text


def write_split(
    annotations: str | Path,
    out: str | Path,
    *,
    train: bool,
    split: str | None = None,
    base: Path | Iterable[str] | None = None,
    novel: Path | Iterable[str] | None = None,
) -> tuple[Path, ClassSplit]:
    """Filters an instances file.

    Training keeps the boxes of base classes and the images that have one; evaluation keeps base and novel boxes and the
    images that have either. Both keep the categories of the split, so that label spaces agree.

    Args:
        annotations: Official instances JSON.
        out: File to write.
        train: Which of the two.
        split: "ov-coco" or "ov-lvis".
        base: Base names of another split.
        novel: Novel names of another split.

    Returns:
        The file and the classes.

    Raises:
        ValueError: The file is not of that form or names do not fit.
    """
    import json

    held = read_json(annotations)
    if not isinstance(held, Mapping) or not {"images", "annotations", "categories"} <= set(held):
        raise ValueError(f'{annotations} lacks "images", "annotations" or "categories"; pass a COCO instances file')
    classes = split_classes(held["categories"], split=split, base=base, novel=novel)
    wanted = set(classes.groups()["base" if train else "all"])
    rows = [row for row in held["annotations"] if row["category_id"] in wanted]
    used = {row["image_id"] for row in rows}
    filtered: dict[str, Any] = {
        **held,
        "images": [row for row in held["images"] if row["id"] in used],
        "annotations": rows,
        "categories": [row for row in held["categories"] if int(row["id"]) in set(classes.ids)],
    }
    return write_text(out, json.dumps(filtered)), classes
