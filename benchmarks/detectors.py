"""The table of all detectors: each small recipe on generated scenes, raw and refined backbone side by side.

    clipself scenes --out scenes --train 500 --val 100
    clipself distill --data scenes/train --out refined --batch-size 8 --lr 1e-3 --max-split 4 --max-steps 500
        --alpha 1 --keep-image 0
    python benchmarks/detectors.py --scenes scenes --refined refined/blended --out runs/detectors

Base boxes only are trained on; novel names are asked for at test. Every run lies in its own folder and is kept: a
second call goes on where the first was stopped, or, given more --steps, lengthens what is shorter; it prints the table
again. `table.json` holds its rows; minutes are those of processor time in the calls that came to their end.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from clipself.detection.checkpoint import as_module, load_detector
from clipself.detection.detector import change_settings
from clipself.detection.evaluate import evaluate_detector
from clipself.detection.recipes import DETECT_RECIPES
from clipself.detection.train import train_detector
from clipself.files import write_json


def small_recipes() -> list[str]:
    """Recipes that are made for the packaged small CLIP."""
    return [name for name in DETECT_RECIPES if name.split("-")[0] == "small"]


def processor_minutes() -> float:
    """Of this process and the workers that it waited for."""
    return sum(os.times()[:4]) / 60


def row_of(recipe: str, backbone: str, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trains and scores one detector, or what of it is missing."""
    out: Path = options.out / f"{recipe}-{backbone}"
    before: dict[str, Any] = json.loads((out / "row.json").read_text()) if (out / "row.json").exists() else {}
    if before and before["steps"] >= (options.steps or 0):
        return before
    begun = processor_minutes()
    annotations, novel = options.scenes / "annotations", (str(options.scenes / "novel.txt"),)
    length: dict[str, Any] = {} if options.steps is None else {"max_steps": options.steps}
    detector = DETECT_RECIPES[recipe]().detector
    changes = {
        "image_size": options.image_size,
        "crops_by": options.raw,
    }  # the original sees crops as it was trained to
    known = {name: value for name, value in changes.items() if value and hasattr(detector, name)}
    length["detector"] = change_settings(detector, known)
    if (out / "training_state.pt").exists():
        result = train_detector(out=out, resume=True, **({} if options.steps is None else {"max_steps": options.steps}))
    else:
        result = train_detector(
            recipe=recipe, model=model, annotations=annotations / "instances_train.json",
            images=options.scenes / "train", novel=novel, out=out, overwrite=True, **length,
        )  # fmt: skip
    minutes = processor_minutes() - begun + before.get("minutes", 0.0)
    (report,) = evaluate_detector(
        checkpoint=str(out), annotations=annotations / "instances_val.json", images=options.scenes / "val", novel=novel,
        limit=options.limit,
    )  # fmt: skip
    learning = [one for one in as_module(load_detector(out)).parameters() if one.requires_grad]
    row = {
        "recipe": recipe, "backbone": backbone, "steps": result.steps,
        **{name: round(value, 2) for name, value in report.summary.items()},
        "minutes": round(minutes, 1), "parameters": sum(one.numel() for one in learning),
    }  # fmt: skip
    write_json(out / "row.json", row)
    return row


def lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The rows as a Markdown table."""
    yield "| recipe | backbone | steps | novel | base | all | minutes | M parameters |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        scores = " | ".join(f"{row.get(f'AP50 {group}', float('nan')):.1f}" for group in ("novel", "base", "all"))
        yield (
            f"| {row['recipe']} | {row['backbone']} | {row['steps']} | {scores} | {row['minutes']:.1f} | "
            f"{row['parameters'] / 1e6:.2f} |"
        )


def main() -> None:
    """Fills the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True, help="what `clipself scenes` wrote")
    parser.add_argument("--refined", help="a refined CLIP; the raw one alone if not given")
    parser.add_argument("--raw", default="clipself-mini", help="the CLIP that it came from")
    parser.add_argument("--out", type=Path, default=Path("runs/detectors"))
    parser.add_argument("--only", nargs="+", choices=small_recipes(), help="these recipes only")
    parser.add_argument("--backbones", nargs="+", choices=("raw", "refined"), default=("raw", "refined"))
    parser.add_argument("--steps", type=int, help="optimizer steps of each; the recipes' own if not given")
    parser.add_argument("--image-size", type=int, help="canvas of the square ones; the recipes' own if not given")
    parser.add_argument("--limit", type=int, help="first scenes only, in the evaluation")
    options = parser.parse_args()
    backbones = {"raw": options.raw, **({"refined": options.refined} if options.refined else {})}
    for recipe in options.only or small_recipes():
        for backbone in (each for each in backbones if each in options.backbones):
            print(*list(lines([row_of(recipe, backbone, backbones[backbone], options)]))[2:], flush=True)
    kept = [options.out / f"{recipe}-{backbone}" / "row.json" for recipe in small_recipes() for backbone in backbones]
    rows = [json.loads(path.read_text()) for path in kept if path.exists()]
    write_json(options.out / "table.json", {"threads": torch.get_num_threads(), "rows": rows})
    print("\n".join(lines(rows)))


if __name__ == "__main__":
    main()
