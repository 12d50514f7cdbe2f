"""What the photographs of `photo_pool` and COCO's train half give: crops with a box's name, pictures with captions."""

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

Box = tuple[float, float, float, float]


class Crop(NamedTuple):
    """One crop to be made. `box` (x, y, width, height) is what it shows; `whole` that it keeps most of the picture."""

    source: str
    container: str
    member: str
    label: str
    box: Box | None = None
    whole: bool = False


class Share(NamedTuple):
    """How many crops a photograph gives: details of it, nearly all of it, and of each of its boxes."""

    details: int
    whole: int
    boxes: int = 0


SHARES = {
    "flickr8k": Share(3, 2),
    "voc2007": Share(2, 3, 3),
    "sun_scenes": Share(1, 3),
    "grocery_store": Share(0, 4),
    "clothing_small": Share(0, 4),
    "houses": Share(2, 4),
    "freiburg_groceries": Share(1, 2, 3),
    "imagenette": Share(1, 5),
    "imagenet_mini_part": Share(1, 5),
    "coco_train2014_part": Share(16, 6),
    "bsds500": Share(16, 6),
    "raccoon": Share(2, 2, 4),
    "kangaroo": Share(2, 2, 4),
}
COCO_BOX = 3
"""Crops of each annotated box of COCO's train half."""
NAMED_WHOLE = {"sun_scenes", "grocery_store", "clothing_small", "houses", "freiburg_groceries", "imagenette",
               "imagenet_mini_part"}  # fmt: skip
"""Sources whose label names the picture as a whole; elsewhere it says what is somewhere in it."""


def pool_rows(data: Path) -> list[dict[str, str]]:
    """The pool's index: source, shard, member, label. Empty where there is no pool."""
    path = data / "photo_pool/index.tsv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def pool_plan(data: Path) -> list[Crop]:
    """Every crop of the pool's photographs."""
    boxes, rows = boxes_of(data), []
    for row in pool_rows(data):
        share, container = SHARES[row["source"]], f"photo_pool/{row['shard']}"
        label = row["label"] if row["source"] in NAMED_WHOLE else ""
        crop = Crop(row["source"], container, row["member"], "")
        rows += [crop] * share.details + [crop._replace(label=label, whole=True)] * share.whole
        for name, box in boxes.get(row["member"], ()):
            rows += [crop._replace(label=name, box=box)] * share.boxes
    return rows


def boxes_of(data: Path) -> dict[str, list[tuple[str, Box]]]:
    """Picture -> its boxes with their names; those marked as difficult are left out."""
    path = data / "photo_pool/boxes.json"
    if not path.exists():
        return {}
    held = json.loads(path.read_text(encoding="utf-8"))
    names = {row["id"]: row["name"] for row in held["categories"]}
    files = {row["id"]: row["file_name"] for row in held["images"]}
    found: dict[str, list[tuple[str, Box]]] = defaultdict(list)
    for row in held["annotations"]:
        if not row.get("difficult"):
            x, y, width, height = row["bbox"]
            found[files[row["image_id"]]].append((names[row["category_id"]], (x, y, width, height)))
    return dict(found)


def coco_boxes(data: Path) -> list[Crop]:
    """What the boxes of COCO's train half show, crowds left out; their names are not used."""
    path = data / "coco_sample/annotations/instances_train2017.json"
    if not path.exists():
        return []
    held = json.loads(path.read_text(encoding="utf-8"))
    files = {row["id"]: row["file_name"] for row in held["images"]}
    return [
        Crop("coco", "", files[row["image_id"]], "", box=tuple(row["bbox"]))
        for row in held["annotations"]
        if not row.get("iscrowd")
        for _ in range(COCO_BOX)
    ]


def pool_names(data: Path) -> set[str]:
    """Every label of the pool, lower-case: of pictures (several are parted by semicolons) and of boxes."""
    names = {name.strip().lower() for row in pool_rows(data) for name in row["label"].split(";")}
    return (names | {name for held in boxes_of(data).values() for name, _ in held}) - {""}


def captions_of(data: Path) -> dict[str, list[str]]:
    """Picture -> its sentences, lower-case without the last full stop; COCO's train half and the pool."""
    found: dict[str, list[str]] = defaultdict(list)
    held = json.loads((data / "coco_sample/annotations/captions_train2017.json").read_text(encoding="utf-8"))
    files = {row["id"]: row["file_name"] for row in held.get("images", ())}
    for row in held["annotations"]:
        found[files.get(row["image_id"], str(row["image_id"]))].append(_plain(row["caption"]))
    path = data / "photo_pool/captions.tsv"
    if path.exists():
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE):
                found[row["member"]].append(_plain(row["caption"]))
    return dict(found)


def _plain(caption: str) -> str:
    return caption.strip().rstrip(".").strip().lower()
