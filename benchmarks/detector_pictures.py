"""Every detector of a table on the same four scenes and two packaged photographs: one sheet, a row a detector.

    python benchmarks/detector_pictures.py --table runs/detectors --scenes scenes --out detectors.jpg

Scores of different detectors have different scales: one threshold would flatter some. The best boxes of a picture
are drawn, as many as there are things in it. Names that training saw are blue, novel ones red.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from clipself.data.coco.instances import read_instances
from clipself.data.images import read_image
from clipself.data.photographs import load_photo
from clipself.detection.detector import Detector
from clipself.detection.predict import annotate
from clipself.structures import Detections
from clipself.viz.panels import lay_out
from clipself.viz.segments import write_picture

PHOTOGRAPHS = {"cat": ("cat", "eye", "nose"), "coffee": ("cup", "spoon", "saucer")}
"""Packaged pictures and what is asked for there."""


def best(found: Detections, most: int) -> Detections:
    """The best boxes, no more of them than there are things."""
    order = torch.argsort(found.scores, descending=True)
    return found.above(float(found.scores[order[most - 1]])) if len(order) > most else found


def main() -> None:
    """Draws the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="folder that benchmarks/detectors.py filled")
    parser.add_argument("--scenes", type=Path, required=True, help="what `clipself scenes` wrote")
    parser.add_argument("--backbone", default="refined", choices=("raw", "refined"))
    parser.add_argument("--first", type=int, default=0, help="place of the first of the four val scenes")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    held = read_instances(options.scenes / "annotations/instances_val.json")
    names = tuple(one.name for one in held.categories)
    asked: list[tuple[Image.Image, tuple[str, ...], int]] = []
    for place in range(options.first, options.first + 4):
        picture = read_image(options.scenes / "val" / held.images[place].file)
        asked.append((picture, names, int((held.image_N == place).sum())))
    asked += [(load_photo(photo), sought, len(sought)) for photo, sought in PHOTOGRAPHS.items()]
    rows = []
    for folder in sorted(options.table.glob(f"*-{options.backbone}")):
        detector = Detector.from_checkpoint(folder)
        known, title = detector.trained_names, folder.name.removesuffix(f"-{options.backbone}")
        row = []
        for picture, sought, things in asked:
            (found,) = detector.predict(picture, sought)
            row.append((title, annotate(picture, best(found, things), known=known)))
            title = ""
        rows.append(row)
        print(folder.name, flush=True)
    print(write_picture(options.out, lay_out(rows, height=220)))


if __name__ == "__main__":
    main()
