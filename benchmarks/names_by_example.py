"""Names by words against names by example: boxes found (AP50) and pixels named (mIoU) on generated scenes.

    clipself scenes --out scenes --train 500 --val 100
    python benchmarks/names_by_example.py --scenes scenes --model clipself-mini refined/blended

Of every class the first `--shots` regions of the training half are its examples, as boxes or as masks. Nothing is
trained here; `--segmenter` takes what `clipself segment train` wrote. Detectors are asked for things, segmenters
(without training by the readout "value") for things and stuff.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from clipself import Detector, TrainingFree, load_clip, open_segmenter
from clipself.data import CocoDetection, CocoPanoptic, open_semantic
from clipself.data.images import Example, Picture
from clipself.detection import score_detector
from clipself.ops.run_lengths import encode_mask
from clipself.segmentation import TrainingFreeSettings, score_segmenter
from clipself.structures import Detections

KINDS: Final = ("words", "boxes", "masks")

Shown = dict[str, list[Example]]


def gather(scenes: Path, shots: int, *, masks: bool) -> Shown:
    """The first regions of every class, by its name."""
    data = CocoPanoptic(scenes / "annotations/panoptic_train.json", scenes / "train")
    left = Counter(dict.fromkeys(data.class_names, shots))
    found: Shown = {}
    for index, path in enumerate(data.paths):
        if not +left:
            break
        held = data.read(index)
        assert held.masks_RHW is not None
        for box, mask, label in zip(held.boxes.tolist(), held.masks_RHW, held.labels_R.tolist(), strict=True):
            name = data.class_names[label]
            if left[name]:
                left[name] -= 1
                runs = (encode_mask(mask.numpy()),) if masks else ()
                found.setdefault(name, []).append(Example(picture=path, boxes=(tuple(box),), masks=runs))
    if missing := [name for name in left if name not in found]:
        raise SystemExit(f"no training scene shows {', '.join(missing)}; write more of them (`clipself scenes`)")
    return found


class ByExample(Detector):
    """Keeps to what it was shown when it is asked for the same by words."""

    def stream(
        self, images: Sequence[Picture] | Picture, names: Sequence[str] | None = None, **more: Any
    ) -> Iterator[Detections]:
        """As any detector, with names that are those of the examples, in their order."""
        return super().stream(images, **more)


def score_boxes(checkpoint: str, scenes: Path, shown: Shown | None, limit: int | None) -> dict[str, float]:
    """AP50 in percent of a detector, of all things and of those that it was, and was not, trained on."""
    detector, annotations = Detector.from_checkpoint(checkpoint), scenes / "annotations/instances_val.json"
    things = CocoDetection(annotations, scenes / "val", train=False).classes.names
    novel = [name for name in things if name not in detector.trained_names]
    data = CocoDetection(annotations, scenes / "val", novel=novel or None, train=False)
    if shown is not None:
        detector = ByExample(detector.model)
        detector.use(examples={name: shown[name] for name in data.classes.names})
    return dict(score_detector(detector, data, limit=limit).summary)


def without_training(model: str, names: Sequence[str]) -> TrainingFree:
    """A CLIP that names pixels."""
    settings = TrainingFreeSettings(templates="simple", shortest=320, window=320, stride=160)
    return TrainingFree(load_clip(model), names, settings)


def trained(checkpoint: str, names: Sequence[str]) -> Any:
    """What `segment train` left."""
    return open_segmenter(checkpoint, names=list(names), device="cpu")


def score_pixels(
    opened: Callable[[str, Sequence[str]], Any], model: str, scenes: Path, shown: Shown | None, limit: int | None
) -> float:
    """The mIoU in percent of a segmenter."""
    data = open_semantic(scenes / "annotations/panoptic_val.json", images=scenes / "val")
    segmenter = opened(model, data.class_names)
    if shown is not None:
        segmenter.use(examples={name: shown[name] for name in data.class_names})
    return score_segmenter(segmenter, data, limit=limit).scores.miou


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True, help="what `clipself scenes` wrote")
    parser.add_argument("--model", nargs="*", default=["clipself-mini"], help="CLIPs that name pixels")
    parser.add_argument("--segmenter", nargs="*", default=[], help="what `segment train` wrote")
    parser.add_argument("--checkpoint", nargs="*", default=["clipself-mini-detector"], help="detectors")
    parser.add_argument("--shots", type=int, default=5, help="examples of each class")
    parser.add_argument("--limit", type=int, help="first held-out scenes only")
    options = parser.parse_args()
    shown = {
        "words": None,
        **{kind: gather(options.scenes, options.shots, masks=kind == "masks") for kind in KINDS[1:]},
    }
    print("| AP50 | words | example boxes | example masks |\n| --- | --- | --- | --- |")
    for checkpoint in options.checkpoint:
        rows = [score_boxes(checkpoint, options.scenes, shown[kind], options.limit) for kind in KINDS]
        for part in (key for key in rows[0] if key.startswith("AP50")):
            print(f"| {checkpoint} {part} | " + " | ".join(f"{row[part]:.1f}" for row in rows) + " |", flush=True)
    print("\n| mIoU | words | example boxes | example masks |\n| --- | --- | --- | --- |")
    for opened, models in ((without_training, options.model), (trained, options.segmenter)):
        for model in models:
            values = [score_pixels(opened, model, options.scenes, shown[kind], options.limit) for kind in KINDS]
            print(f"| {model} | " + " | ".join(f"{value:.2f}" for value in values) + " |", flush=True)


if __name__ == "__main__":
    main()
