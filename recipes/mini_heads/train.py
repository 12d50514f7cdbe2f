"""Makes the trained heads that ship with the package, on generated scenes; each part goes on where it was stopped.

Usage: python recipes/mini_heads/train.py --work WORK [--parts detector masks] [--out FOLDER] [--scenes 2400]

The scenes are drawn, so that nothing else is needed. A part takes half an hour on two cores; then its weights are
rounded to float16 and its folder is written with a card, which `clipself.backbones.packaged_heads` names.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save

from clipself import evaluate_detector, evaluate_panoptic, train_detector, train_panoptic
from clipself.backbones.packaged_heads import PACKAGED_HEADS
from clipself.data.scenes.export import write_scenes
from clipself.files import write_bytes, write_json

SEED = 7
"""Of the scenes: others than those that the documentation trains and measures on."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One kind of heads.

    Attributes:
        name: What the package calls them.
        train: (scenes, folder of the run, steps) -> trains, or goes on.
        score: (scenes, folder of heads) -> what their card says of them.
        stem: Name of card and weights.
        steps: How long it was trained.
    """

    name: str
    train: Callable[[Path, Path, int], Any]
    score: Callable[[Path, Path], str]
    stem: str
    steps: int


def begin(function: Callable[..., Any], out: Path, **settings: Any) -> None:
    """Trains, or goes on with what was stopped."""
    if (out / "training_state.pt").exists():
        function(out=out, resume=True)
    else:
        function(out=out, overwrite=True, **settings)


def detector(scenes: Path, out: Path, steps: int) -> None:
    """The small recipe, all things of the scenes being base; CLIP counts more, for what photographs look like."""
    begin(
        train_detector, out, annotations=scenes / "annotations/instances_train.json", images=scenes / "train",
        max_steps=steps, save_every=50, detector={"alpha": 0.3},
    )  # fmt: skip


def score_detector(scenes: Path, heads: Path) -> str:
    """AP50 on held-out scenes."""
    (report,) = evaluate_detector(
        checkpoint=heads, annotations=scenes / "annotations/instances_val.json", images=scenes / "val"
    )
    return f"AP50 {report.summary['AP50']:.0f} on other scenes"


def masks(scenes: Path, out: Path, steps: int) -> None:
    """The small recipe on all classes."""
    begin(
        train_panoptic, out, annotations=scenes / "annotations/panoptic_train.json", images=scenes / "train",
        max_steps=steps, save_every=50,
    )  # fmt: skip


def score_masks(scenes: Path, heads: Path) -> str:
    """PQ on held-out scenes, as predictions are scored."""
    report = evaluate_panoptic(
        checkpoint=heads, annotations=scenes / "annotations/panoptic_val.json", images=scenes / "val", scores="both"
    )
    return f"PQ {report.rows[0].quality.overall.pq:.0f} on other scenes"


PARTS: Mapping[str, Part] = {
    "detector": Part(name="clipself-mini-detector", train=detector, score=score_detector, stem="detector", steps=1200),
    "masks": Part(name="clipself-mini-masks", train=masks, score=score_masks, stem="mask_model", steps=700),
}


def pack(run: Path, out: Path, part: Part) -> Path:
    """Writes a run's heads as float16, with a card that holds what loading needs."""
    tensors = {name: value.half() for name, value in load_file(run / f"{part.stem}.safetensors").items()}
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / f"{part.stem}.safetensors", save(tensors, metadata={"format": "pt"}))
    card = json.loads((run / f"{part.stem}.json").read_text(encoding="utf-8"))
    card["training"] = {key: card["training"][key] for key in ("lr", "batch_size", "seed")}
    write_json(out / f"{part.stem}.json", card)
    return out / f"{part.stem}.json"


def make(part: Part, work: Path, out: Path, *, count: int, steps: int) -> str:
    """Scenes, training, packing, and the sentence that predictions print."""
    scenes = write_scenes(work / "scenes", train=count, val=min(count, 100), seed=SEED)
    part.train(scenes, work / part.stem, steps)
    return finish(pack(work / part.stem, out, part), part, scenes, count=count)


def finish(path: Path, part: Part, scenes: Path, *, count: int) -> str:
    """Measures packed heads and writes into their card what predictions print of them."""
    card = json.loads(path.read_text(encoding="utf-8"))
    card["summary"] = (
        f"small heads, trained on {count} generated scenes at {card['settings']['image_size']} px "
        f"({part.score(scenes, path.parent)}); a first look, weak on photographs"
    )
    write_json(path, card)
    return str(card["summary"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--out", type=Path, help="folder for the parts; the package's own if not given")
    parser.add_argument("--scenes", type=int, default=2400)
    parser.add_argument("--steps", type=int, help="of each part; as the packaged ones were trained if not given")
    options = parser.parse_args()
    for chosen in options.parts:
        row = PARTS[chosen]
        target = PACKAGED_HEADS[row.name] if options.out is None else options.out / chosen
        print(make(row, options.work, target, count=options.scenes, steps=options.steps or row.steps))
