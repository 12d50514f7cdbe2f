"""Pictures and data sets drawn in code."""

import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def draw_pictures(folder: Path, count: int = 6, *, size: tuple[int, int] = (60, 80)) -> Path:
    """Blocks of colour with noise, each picture of another size."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        rng = np.random.default_rng(index)
        height, width = size[0] + 3 * index, size[1] + 2 * index
        pixels = rng.integers(0, 60, (height, width, 3)) + rng.integers(0, 190, (1, 1, 3))
        pixels[: height // 2, : width // 2] = rng.integers(0, 255, 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return folder


def pack(folder: Path, shards: Path, *, each: int = 4) -> Path:
    """The files of a folder in tar shards, in an order of their own within each."""
    shards.mkdir()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number, start in enumerate(range(0, len(files), each)):
        with tarfile.open(shards / f"{number:02d}.tar", "w") as held:
            for path in reversed(files[start : start + each]):
                held.add(path, path.relative_to(folder).as_posix())
    return shards


def write_coco(folder: Path, boxes: Mapping[str, Sequence[Sequence[float]]], **more: Any) -> Path:
    """A COCO file for the pictures of a folder: name -> `xywh` boxes, all of category 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, rows) in enumerate(boxes.items()):
        images.append({"id": number, "file_name": name})
        for box in rows:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box, "area": box[2] * box[3]}
            )
    held = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}], **more}
    path = folder / "instances.json"
    path.write_text(json.dumps(held))
    return path
