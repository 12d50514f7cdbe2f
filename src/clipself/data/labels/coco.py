"""COCO's instances JSON of labelled pictures, written row by row; masks are run lengths, which hold every pixel."""

import json
from pathlib import Path
from typing import Any

from clipself.data.coco.write import category_rows, image_row
from clipself.data.labels.objects import Export, LabelledObject
from clipself.files import write_atomically


def write_coco(export: Export, out: Path) -> Path:
    """`instances.json`, whose path is returned; every row has its score beside what COCO has."""

    def fill(part: Path) -> None:
        with part.open("w", encoding="utf-8") as stream:
            stream.write(f'{{"categories": {json.dumps(category_rows(export.names))},\n"images": [')
            for number, picture in enumerate(export, start=1):
                stream.write(_separator(number) + json.dumps(image_row(number, picture.file, picture.size)))
            stream.write('\n],\n"annotations": [')
            count = 0
            for number, picture in enumerate(export, start=1):
                for one in picture.objects:
                    count += 1
                    stream.write(_separator(count) + json.dumps({"id": count, "image_id": number, **_row(one)}))
            stream.write("\n]}\n")

    return write_atomically(out / "instances.json", fill)


def _separator(number: int) -> str:
    return "\n" if number == 1 else ",\n"


def _row(one: LabelledObject) -> dict[str, Any]:
    left, top, right, bottom = one.box
    row: dict[str, Any] = {
        "category_id": one.label + 1,
        "bbox": [round(value, 3) for value in (left, top, right - left, bottom - top)],
        "area": round(one.area, 3),
        "iscrowd": 0,
    }
    if one.mask is not None:
        row["segmentation"] = one.mask
    return row if one.score is None else {**row, "score": one.score}
