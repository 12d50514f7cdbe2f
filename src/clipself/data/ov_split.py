"""Writes the open-vocabulary split of an official instances file: base boxes to train on, base and novel to test on."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from clipself.data.coco.instances import read_instances
from clipself.data.coco.kinds import open_coco
from clipself.data.coco.splits import ClassSplit, split_classes
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
    held = open_coco(annotations)
    table = read_instances(held, masks=True)
    table.report.tell()
    classes = split_classes(table.categories, split=split, base=base, novel=novel, source=table.source)
    wanted = set(classes.groups()["base" if train else "all"])
    chosen = np.asarray([one.id in wanted for one in table.categories], dtype=bool)
    rows = np.flatnonzero(chosen[table.category_N]) if len(table) else np.zeros(0, dtype=np.int64)
    if not len(rows):
        raise ValueError(f"{table.source} holds no box of the wanted classes; nothing of it would be left")
    used, kept = sorted({int(place) for place in table.image_N[rows]}), set(classes.ids)
    filtered: dict[str, Any] = {
        **held.value,
        "images": [held.value["images"][table.images[place].row] for place in used],
        "annotations": [held.value["annotations"][int(row)] for row in table.row_N[rows]],
        "categories": [
            held.value["categories"][row] for row in sorted(one.row for one in table.categories if one.id in kept)
        ],
    }
    return write_text(out, json.dumps(filtered)), classes
