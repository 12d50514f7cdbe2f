"""A tiny world for panoptic tests: flat pictures whose segments are known, written in COCO's panoptic format."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
NAMES = ("red box", "green box", "blue ground")


def draw_world(index: int, size: tuple[int, int] = (48, 64)) -> tuple[Image.Image, NDArray[np.int32], dict[int, int]]:
    """Blue ground with a red and a green box: picture, segment ids, segment id -> label."""
    height, width = size
    ids = np.full(size, 7, dtype=np.int32)
    left = 4 + 3 * (index % 5)
    ids[8:30, left : left + 20] = 1000  # needs more than one colour channel
    ids[20:44, width - 24 : width - 4] = 300
    labels = {7: 2, 1000: 0, 300: 1}
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for segment, label in labels.items():
        pixels[ids == segment] = COLOURS[label]
    return Image.fromarray(pixels), ids, labels


def write_world(folder: Path, *, count: int = 3, first_class: int = 0, void: bool = True) -> tuple[Path, Path]:
    """Writes pictures, PNGs and JSON; returns the JSON and the folder of pictures. ADE20K's class ids start at 0."""
    images, segments = folder / "images", folder / "panoptic"
    images.mkdir(parents=True)
    segments.mkdir()
    rows, infos = [], []
    for index in range(count):
        picture, ids, labels = draw_world(index)
        if void:
            ids[:3] = 0
        name = f"{index + 5:012d}"
        picture.save(images / f"{name}.png")
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(segments / f"{name}.png")
        rows.append({"id": index + 5, "file_name": f"{name}.png", "height": 48, "width": 64})
        infos.append(
            {
                "image_id": index + 5,
                "file_name": f"{name}.png",
                "segments_info": [
                    {
                        "id": one,
                        "category_id": first_class + label,
                        "iscrowd": 0,
                        "area": int((ids == one).sum()),
                    }
                    for one, label in labels.items()
                ],
            }
        )
    categories = [
        {"id": first_class + label, "name": name, "isthing": int(label < 2)} for label, name in enumerate(NAMES)
    ]
    annotations = folder / "panoptic.json"
    annotations.write_text(json.dumps({"images": rows, "annotations": infos, "categories": categories}))
    return annotations, images
