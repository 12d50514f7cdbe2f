"""The photographs: what is distilled on without labels, what is held back for choosing, what is measured on."""

import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clipself.data.images.formats import SUFFIXES
from clipself.files import write_bytes, write_json
from clipself.text.vocabulary import load_vocabulary

HELD_BACK: Final = 60
"""Photographs of COCO's training half that settings are chosen by and that no student ever sees."""
PARTLY_LABELLED: Final = ("freiburg_groceries",)
"""Sources whose boxes leave some of their things out: proposals all the same, but no ground for a detector."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Photographs:
    """Where everything lies.

    Attributes:
        pictures: Folder of all photographs to distil on.
        boxes: Instances JSON of those with boxes, for proposals.
        detection: That of those whose things are all boxed.
        held_back: Panoptic JSON of the photographs to choose by.
        coco: The COCO sample: annotations/ and images/.
    """

    pictures: Path
    boxes: Path
    detection: Path
    held_back: Path
    coco: Path

    def annotations(self, name: str) -> Path:
        """An annotation file of the COCO sample, such as "panoptic_val2017"."""
        return self.coco / "annotations" / f"{name}.json"

    def images(self, half: str) -> Path:
        """The pictures of "train2017" or "val2017"."""
        return self.coco / "images" / half


def prepare(data: Path, out: Path, *, caltech: bool = False) -> Photographs:
    """Unpacks the pool, sets photographs of COCO's training half aside, and joins what has boxes.

    What is there already stays: the second call only looks.

    Args:
        data: Folder of `photo_pool` (tar shards and `boxes.json`), `coco_sample` in COCO's own layout and, for
            Caltech 101, `pretrain_images`.
        out: Folder to write.
        caltech: Whether to distil on the pictures of Caltech 101 too.

    Raises:
        FileNotFoundError: A part of the data is missing.
        ValueError: Photographs with boxes are in no shard.
    """
    coco = data / "coco_sample"
    found = Photographs(
        pictures=out / "pictures", boxes=out / "boxes.json", detection=out / "detection.json",
        held_back=out / "held_back.json", coco=coco,
    )  # fmt: skip
    kept_out = hold_back(found.annotations("panoptic_train2017"), found.held_back, HELD_BACK)
    shards = sorted((data / "photo_pool").glob("*.tar"))
    if not shards:
        raise FileNotFoundError(f"no tar shards in {data / 'photo_pool'}; pass the folder that holds photo_pool")
    shards += sorted((data / "pretrain_images").glob("caltech101-*.tar")) if caltech else []
    places: dict[str, str] = {}
    for shard in shards:
        for member in unpack(shard, found.pictures / shard.stem):
            places[member] = f"{shard.stem}/{member}"
    for path in sorted(found.images("train2017").iterdir()):
        if path.name not in kept_out and not (found.pictures / "coco" / path.name).exists():
            write_bytes(found.pictures / "coco" / path.name, path.read_bytes())
    pool = json.loads((data / "photo_pool/boxes.json").read_text(encoding="utf-8"))
    official = json.loads(found.annotations("instances_train2017").read_text(encoding="utf-8"))
    lost = [row["file_name"] for row in pool["images"] if row["file_name"] not in places]
    if lost:
        raise ValueError(f"{len(lost)} photographs of photo_pool/boxes.json are in no shard, such as {lost[0]}")
    names = {row["file_name"]: f"coco/{row['file_name']}" for row in official["images"]}
    names = {name: place for name, place in names.items() if name not in kept_out}
    write_json(found.boxes, join([(pool, places), (official, names)]))
    whole = {**pool, "images": [row for row in pool["images"] if row.get("source") not in PARTLY_LABELLED]}
    write_json(found.detection, join([(whole, places), (official, names)]))
    return found


def hold_back(panoptic: Path, out: Path, count: int) -> set[str]:
    """Copies the labels of photographs to choose by: those whose names' digests come first, whatever else is there.

    Returns:
        Names of their pictures.
    """
    held = json.loads(panoptic.read_text(encoding="utf-8"))
    order = sorted(held["images"], key=lambda row: hashlib.sha256(row["file_name"].encode()).hexdigest())
    images = order[:count]
    ids = {row["id"] for row in images}
    rows = [row for row in held["annotations"] if row["image_id"] in ids]
    for row in rows:
        target = out.with_suffix("") / row["file_name"]
        if not target.exists():
            write_bytes(target, (panoptic.with_suffix("") / row["file_name"]).read_bytes())
    write_json(out, {**held, "images": images, "annotations": rows})
    return {row["file_name"] for row in images}


def unpack(shard: Path, folder: Path) -> list[str]:
    """Writes the pictures of a shard as files, those that are not there yet; gives their names."""
    names = list[str]()
    with tarfile.open(shard) as tar:
        for member in tar:
            name = Path(member.name).name
            if not member.isfile() or Path(name).suffix.lower() not in SUFFIXES:
                continue
            names.append(name)
            stream = tar.extractfile(member)
            if stream is not None and not (folder / name).exists():
                write_bytes(folder / name, stream.read())
    return names


def join(parts: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]]) -> dict[str, Any]:
    """One instances file of several: classes of one name become one, ids are new.

    Args:
        parts: Files, and for each where its pictures lie now, by their names; others are left out.
    """
    ids: dict[str, int] = {}
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for held, places in parts:
        label = {row["id"]: ids.setdefault(row["name"], len(ids) + 1) for row in held["categories"]}
        new: dict[Any, int] = {}
        for row in held["images"]:
            if row["file_name"] in places:
                new[row["id"]] = len(images) + 1
                size = {"width": row["width"], "height": row["height"]}
                images.append({"id": new[row["id"]], "file_name": places[row["file_name"]], **size})
        annotations += [
            {
                "id": len(annotations) + place, "image_id": new[row["image_id"]],
                "category_id": label[row["category_id"]], "bbox": row["bbox"], "area": row["area"],
                "iscrowd": row.get("iscrowd", 0),
            }
            for place, row in enumerate((row for row in held["annotations"] if row["image_id"] in new), start=1)
        ]  # fmt: skip
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": place, "name": name} for name, place in ids.items()],
    }


def base_and_novel(annotations: Path) -> tuple[list[str], list[str]]:
    """Names of a file by the published split of OV-COCO: its base names and its novel ones; all others are neither."""
    held = {row["name"] for row in json.loads(annotations.read_text(encoding="utf-8"))["categories"]}
    split = load_vocabulary("ov_coco_65")
    return [name for name in split.base if name in held], [name for name in split.novel if name in held]
