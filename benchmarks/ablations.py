"""Ablations of self-distillation at small scale: clipself-mini on small generated scenes, a minute a run on a CPU.

Every run lies in its own folder and is kept: a second call does only what is missing, and prints the tables again.

Usage: python benchmarks/ablations.py --work runs/ablations [--steps 60] [--only regions readout size blocks alpha]
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import blend_clips
from clipself.backbones.loading import load_clip
from clipself.data.scenes import SceneImages, SceneMaker, write_scenes
from clipself.distillation.config import DistillConfig
from clipself.distillation.recipes import distill_recipe
from clipself.distillation.train import distill
from clipself.files import write_json
from clipself.regions.evaluate import score_regions
from clipself.regions.report import RegionReport

DENSE: Final = ("boxes", "thing_masks", "stuff_masks")
KEPT: Final = (*DENSE, "crops")
"""With what may be forgotten."""
ALPHAS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
SCENE: Final = (160, 160)
RAW_READOUTS: Final = ("value", "qk", "qq", "kk", "qq+kk", "kk+gauss", "clearclip", "naclip")

STUDIES: Final[Mapping[str, Mapping[str, dict[str, Any]]]] = {
    "regions": {"patches": {}, "proposals": {"regions": "proposals"}},
    "grids": {f"up to {most} x {most}": {"max_split": most} for most in (2, 3, 6)},
    "readout": {name: {"readout": name} for name in ("value", "qk", "kk")},
    "size": {f"{side} px": {"image_size": side} for side in (96, 160, 224)},
    "keep": {
        f"{weight:g}, {crops:g} of the crops, {regions}": {
            "keep_image": weight,
            "keep_crops": crops,
            "regions": regions,
        }
        for regions in ("proposals", "patches")
        for weight, crops in (
            (0.0, 0.0),
            (0.25, 0.0),
            (1.0, 0.0),
            (0.1, 0.25),
            (0.25, 0.25),
            (0.5, 0.25),
            (0.25, 0.5),
            (1.0, 0.5),
        )
    },
    "blocks": {str(count): {"trainable_blocks": count} for count in (1, 3, 6)},
}
"""Study -> run -> what it changes of the base run."""


def base_config(work: Path, *, steps: int) -> DistillConfig:
    """Patches, value readout, 160 px, all six blocks; no mirroring, so that runs share the teacher's embeddings."""
    return distill_recipe(
        "modern", data=work / "scenes/train", out=work / "base", image_size=160, max_steps=steps, flip=0.0, workers=1,
        batch_size=4, max_split=3, lr=1e-3, trainable_blocks=6, teacher_cache=work / "teacher", overwrite=True,
        save_every=0, keep_image=0.0,
    )  # fmt: skip


def run_variant(
    base: DistillConfig, work: Path, changes: Mapping[str, Any], *, held_out: int, modes: tuple[str, ...] = DENSE
) -> dict[str, Any]:
    """Distils and scores one variant, unless its scores are there already."""
    changed = {name: value for name, value in changes.items() if getattr(base, name) != value}
    if changed.get("regions") == "proposals":
        changed["annotations"] = work / "scenes/annotations/instances_train.json"
    title = "-".join(f"{name}={changes[name]}" for name in changes if name in changed) or "base"
    config = replace(base, out=work / "runs" / title, **changed)
    path = config.out / ("regions.json" if modes == DENSE else "kept.json")
    if not path.exists():
        if not (config.out / "result.json").exists():
            distill(config)
        student = load_clip(config.out / "student")
        report = score(student, held_out, image_size=config.image_size, readout=config.readout, modes=modes)
        write_json(path, {**report.to_json(), "whole images": likeness(student, load_clip(base.model), held_out)})
    held = json.loads(path.read_text())
    return dict(held["scores"]) | ({"whole images": held["whole images"]} if modes == KEPT else {})


@torch.no_grad()
def likeness(student: DenseCLIP, original: DenseCLIP, held_out: int) -> float:
    """Mean cosine of whole held-out scenes as both embed them, at the model's own size."""
    data = held_out_scenes(held_out)
    pixels = torch.stack(
        [original.preprocess(data.read(index).image, size=original.image_size) for index in range(held_out)]
    )
    return float((student.encode_image(pixels) * original.encode_image(pixels)).sum(-1).mean())


def held_out_scenes(count: int) -> SceneImages:
    """Scenes that nothing is distilled on."""
    return SceneImages(SceneMaker(size=SCENE, seed="held out/0", most_things=4), count)


def score(
    clip: DenseCLIP, held_out: int, *, image_size: int = 160, readout: str = "value", modes: tuple[str, ...] = DENSE
) -> RegionReport:
    """Region scores on held-out scenes."""
    return score_regions(clip, held_out_scenes(held_out), image_size=image_size, readout=readout, modes=modes)


def kept(path: Path, report: Any) -> dict[str, Any]:
    """Scores from a file, or from a call whose result is then kept in it."""
    if not path.exists():
        report().write(path)
    return dict(json.loads(path.read_text())["scores"])


def sweep_alpha(base: DistillConfig, work: Path, *, held_out: int) -> dict[str, dict[str, Any]]:
    """Blends of the base run's student with the original."""
    original, student = load_clip(base.model), load_clip(work / "runs/base/student")
    rows = {}
    for alpha in ALPHAS:
        blended = blend_clips(student, original, alpha).eval()
        rows[f"{alpha:.2f}"] = kept(
            work / "alpha" / f"{alpha:.2f}.json", lambda blended=blended: score(blended, held_out)
        )
    return rows


def raw_readouts(base: DistillConfig, work: Path, *, held_out: int) -> dict[str, dict[str, Any]]:
    """What training-free readouts give before any distillation."""
    original = load_clip(base.model)
    return {
        name: kept(work / "raw" / f"{name}.json", lambda name=name: score(original, held_out, readout=name))
        for name in RAW_READOUTS
    }


def print_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """A Markdown table of top-1 / top-5, or of single numbers."""
    modes = list(next(iter(rows.values())))
    print(f"\n| {title} | {' | '.join(mode.replace('_', ' ') for mode in modes)} |\n|{' --- |' * (len(modes) + 1)}")
    for name, scores in rows.items():
        values = (scores[mode] for mode in modes)
        cells = (f"{one:.2f}" if isinstance(one, float) else f"{one['top1']:.1f} / {one['top5']:.1f}" for one in values)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Runs what is missing and prints everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--scenes", type=int, default=160)
    parser.add_argument("--held-out", type=int, default=60)
    parser.add_argument("--only", nargs="+", choices=[*STUDIES, "alpha", "raw"], default=[*STUDIES, "alpha", "raw"])
    options = parser.parse_args()
    work = options.work
    if not (work / "scenes/annotations/instances_train.json").exists():
        write_scenes(work / "scenes", train=options.scenes, val=1, size=SCENE)
    base = base_config(work, steps=options.steps)
    print_table("original", {"-": kept(work / "original.json", lambda: score(load_clip(base.model), options.held_out,
                                                                             modes=KEPT))})  # fmt: skip
    run_variant(base, work, {}, held_out=options.held_out)
    for study in options.only:
        if study == "alpha":
            print_table("alpha", sweep_alpha(base, work, held_out=options.held_out))
        elif study == "raw":
            print_table("readout, no training", raw_readouts(base, work, held_out=options.held_out))
        else:
            rows = {
                name: run_variant(
                    base, work, changes, held_out=options.held_out, modes=KEPT if study == "keep" else DENSE
                )
                for name, changes in STUDIES[study].items()
            }
            print_table(study, rows)


if __name__ == "__main__":
    main()
