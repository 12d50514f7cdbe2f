"""Finds things that are shown by a few boxes, without training: five labelled boxes a thing in place of its name.

    python examples/few_shot_detection.py                                               # on a few generated scenes
    python examples/few_shot_detection.py --annotations labels.json --example-images photos --images more_photos

Prints what is found in each picture; with `--truth`, labels of `--images`, AP50 by examples beside AP50 by words.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

import clipself
from clipself.data.examples import read_examples
from clipself.data.images import Example, find_pictures
from clipself.data.scenes import write_scenes
from clipself.detection import to_coco
from clipself.metrics import coco_ap
from clipself.structures import Detections


def first_boxes(examples: dict[str, list[Example]], shots: int) -> dict[str, list[Example]]:
    """The first boxes of every thing, whichever pictures they are on."""
    chosen: dict[str, list[Example]] = {}
    for name, given in examples.items():
        singles = [replace(one, boxes=(box,), masks=()) for one in given for box in one.boxes]
        chosen[name] = singles[:shots]
    return chosen


def ap50(found: dict[str, Detections], truth: dict[str, Any]) -> float:
    """Against labelled boxes, in percent."""
    ids, rows = {each["name"]: each["id"] for each in truth["categories"]}, list[dict[str, Any]]()
    for image in truth["images"]:
        if (here := found.get(Path(image["file_name"]).name)) is not None:
            known = here.only(*[name for name in here.names if name in ids])
            rows += to_coco(known, image_id=image["id"], category_ids=[ids.get(name, -1) for name in known.names])
    return 100 * coco_ap(truth, rows).summary["AP50"]


def main(
    *, annotations: Path | None = None, example_images: Path | None = None, images: Path | None = None,
    truth: Path | None = None, shots: int = 5, checkpoint: str = "clipself-mini-detector", threshold: float = 0.3,
    out: Path = Path("runs/few_shot"),
) -> dict[str, float]:  # fmt: skip
    """Looks for what the boxes show."""
    if annotations is None or example_images is None or images is None:
        scenes = write_scenes(out / "scenes", train=40, val=6)
        annotations, example_images = scenes / "annotations/instances_train.json", scenes / "train"
        images, truth = scenes / "val", scenes / "annotations/instances_val.json"
    examples = first_boxes(read_examples(annotations, example_images), shots)
    paths = find_pictures(images).paths
    detector = clipself.Detector.from_checkpoint(checkpoint)
    detector.use(examples=examples)
    found = {path.name: one for path, one in zip(paths, detector.stream(paths), strict=True)}
    for name, here in found.items():
        sure = here.above(threshold)
        print(f"{name}: " + (", ".join(f"{one.name} {one.score:.2f}" for one in sure) or "nothing; lower --threshold"))
    if truth is None:
        return {}
    held = json.loads(truth.read_text(encoding="utf-8"))
    detector.use(list(examples))
    spoken = {path.name: one for path, one in zip(paths, detector.stream(paths), strict=True)}
    scores = {"examples": ap50(found, held), "words": ap50(spoken, held)}
    print(", ".join(f"AP50 by {how} {value:.1f}" for how, value in scores.items()))
    return scores


if __name__ == "__main__":
    tyro.cli(main)
