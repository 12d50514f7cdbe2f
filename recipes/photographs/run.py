"""Distils a CLIP on real photographs, and measures what that is good for; each stage goes on where it was stopped.

Usage: python recipes/photographs/run.py --data DATA --model MODEL --out OUT [--stages STAGE ...]

DATA holds photo_pool/ (tar shards and boxes.json) and coco_sample/ (COCO's own layout); MODEL is
"clipself-mini", any name that `clipself distill` knows, or an export folder. The same command again goes on, at any
time after a kill; a stage that is done is passed over. Settings are chosen by photographs of COCO's training half that
no student sees (`data.HELD_BACK`); what the tables say is measured on its validation half, which nothing was chosen by.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from carry import detector_scores, finished, region_scores, segmenter_scores, table_scores
from curve import Curve, dense_of, draw_curves, read_points
from report import write_report

from clipself import distill, load_clip
from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.devices import pick_device
from clipself.backbones.export import blend_clips, save_clip
from clipself.backbones.model_folder import CARD_NAME
from clipself.cards import read_card
from clipself.data.labelled import open_labelled
from clipself.files import write_json
from data import Photographs, prepare


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One distillation.

    Attributes:
        image_size: Side of the student's input, in pixels.
        steps: Optimizer steps.
        every: Steps from point to point of the curve.
        regions: "patches", "random-boxes" or "proposals".
        after: Run, or mean of runs, whose student this one goes on with.
        settings: What else differs from the recipe.
    """

    image_size: int
    steps: int
    every: int
    regions: str = "patches"
    after: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


RUNS: dict[str, Run] = {
    "patches-320": Run(image_size=320, steps=6000, every=500),
    "patches-480": Run(image_size=480, steps=1500, every=250, after="patches-320", settings={"lr": 5e-4}),
    "boxes-480": Run(
        image_size=480,
        steps=1500,
        every=250,
        regions="random-boxes",
        after="patches-320",
        settings={"lr": 5e-4, "max_split": 8, "max_regions": 8},
    ),
    "card-480": Run(
        image_size=480,
        steps=770,
        every=770,
        regions="random-boxes",
        settings={"lr": 1.5e-3, "max_split": 16, "max_regions": 8, "batch_size": 64},
    ),
    "after-card-480": Run(
        image_size=480,
        steps=880,
        every=440,
        regions="random-boxes",
        after="card-480",
        settings={"lr": 7e-4, "max_split": 8, "max_regions": 8},
    ),
    "last-480": Run(
        image_size=480,
        steps=440,
        every=440,
        after="after-card-480",
        settings={"lr": 4e-4, "keep_image": 0.5, "keep_crops": 0.5},
    ),
    "long-320": Run(
        image_size=320,
        steps=4500,
        every=1500,
        regions="random-boxes",
        after="mean-480",
        settings={"max_split": 6, "max_regions": 10, "keep_image": 0.5},
    ),
    "long-patches-320": Run(image_size=320, steps=4500, every=1500, after="mean-480", settings={"keep_image": 0.5}),
    "long-480": Run(
        image_size=480,
        steps=800,
        every=800,
        regions="random-boxes",
        after="long-mean-320",
        settings={"lr": 5e-4, "max_split": 8, "max_regions": 8, "keep_image": 0.5},
    ),
    "long-patches-480": Run(
        image_size=480, steps=800, every=800, after="long-mean-320", settings={"lr": 5e-4, "keep_image": 0.5}
    ),
    "proposals-320": Run(image_size=320, steps=3000, every=250, regions="proposals"),
    "proposals-480": Run(
        image_size=480, steps=750, every=125, regions="proposals", after="proposals-320", settings={"lr": 5e-4}
    ),
}
"""Name of a run, which is its stage too -> the run. What worked on generated scenes: cells that hold whole things, a
high rate, many small steps; then at the size of evaluation, with random boxes, of which as many are large as small.
Where there is a graphics card: large steps at once at the size of evaluation, boxes down to a sixteenth, then small
steps on larger ones. 770 of its steps see four times what 3,000 of the first run see. The long ones go on from there:
what is then furthest from its crops is large."""
MEANS: dict[str, tuple[str, ...]] = {
    "mean-480": ("card-480", "after-card-480", "last-480"),
    "long-mean-320": ("long-320", "long-patches-320"),
    "long-mean-480": ("long-480", "long-patches-480"),
}
"""Name of a student, which is its stage too -> the runs of whose weights it is the mean: it keeps more of the crops,
and two runs from one student are made on two cores."""
SETTINGS: dict[str, Any] = {
    "batch_size": 4, "lr": 1e-3, "max_split": 4, "alpha": 1.0, "save_every": 50, "workers": 0, "resume": "auto",
}  # fmt: skip
"""Of all runs, beside the recipe `modern`."""
CHANGES: Final = ("batch_size", "workers", "device", "keep_image", "keep_crops")
"""Of all runs, by the command line."""
TOLD: Final = ("refined_by", "refined_from", "original_weights_hash", "settings", "steps", "loss", "alpha", "mean_of")
"""What the card of a shipped student keeps of the student's own."""


class Work:
    """What the stages share.

    Args:
        options: Of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out, self.model = options, Path(options.out), str(options.model)
        self.changes = {name: getattr(options, name) for name in CHANGES if getattr(options, name) is not None}
        self.device = pick_device(options.device)

    @cached_property
    def photographs(self) -> Photographs:
        """The data, unpacked."""
        return prepare(Path(self.options.data), self.out / "data", caltech=self.options.caltech)

    @cached_property
    def original(self) -> DenseCLIP:
        """The model as it was."""
        return load_clip(self.model, device=self.device)

    def folder(self, run: str) -> Path:
        """Of a run."""
        return self.out / "runs" / run

    @property
    def students(self) -> dict[str, str]:
        """Runs that are done -> their students' folders."""
        done = [run for run in (*RUNS, *MEANS) if (self.folder(run) / "result.json").exists()]
        return {run: str(self.folder(run) / "student") for run in done}

    @property
    def models(self) -> dict[str, str]:
        """Title -> model of every row of the tables: the original first."""
        return {"original": self.model, **self.students}

    def chosen(self) -> str | None:
        """The run whose last point on the photographs held back is best; what it is carried on with."""
        last = {run: read_points(self.folder(run) / "curve")[-1] for run in self.students if run in RUNS}
        return max(last, key=lambda run: dense_of(last[run])) if last else None

    @property
    def carried(self) -> dict[str, str]:
        """Title -> model of what heads are trained on."""
        run = self.options.carry or self.chosen()
        return {"original": self.model, **({} if run is None else {run: self.students[run]})}


def distil(work: Work, name: str) -> None:
    """One run of the table, with its curve."""
    run, photographs, out = RUNS[name], work.photographs, work.folder(name)
    student = None if run.after is None else str(work.folder(run.after) / "student")
    boxes = {"annotations": photographs.boxes} if run.regions == "proposals" else {}
    steps = max(1, round(run.steps * work.options.scale))
    if finished(out, steps):
        return
    points = work.options.points or max(1, round(run.steps / run.every))
    curve = Curve(
        out / "curve", every=max(1, round(steps / points)),
        data=open_labelled(photographs.held_back, photographs.images("train2017")), original=work.original,
        image_size=run.image_size,
    )  # fmt: skip
    curve.begin(load_clip(student, device=work.device) if student else work.original)
    settings = {**SETTINGS, **run.settings, **work.changes, **boxes}
    distill(
        recipe="modern", data=photographs.pictures, out=out, model=work.model, student=student, max_steps=steps,
        image_size=run.image_size, regions=run.regions, on_step=curve, **settings,
    )  # fmt: skip


def average(work: Work, name: str) -> None:
    """The mean of the weights of some runs, where they are done."""
    out, parts = work.folder(name), [work.students.get(run) for run in MEANS[name]]
    if finished(out, 0) or None in parts:
        return
    mean = load_clip(str(parts[0]))
    for place, part in enumerate(parts[1:], start=2):
        mean = blend_clips(load_clip(str(part)), mean, 1 / place)
    save_clip(mean, out / "student", card={**told(Path(str(parts[-1]))), "mean_of": list(MEANS[name])})
    write_json(out / "result.json", {"steps": 0})


def told(student: Path) -> dict[str, Any]:
    """What the card of a shipped student keeps of the student's own."""
    card = read_card(student / CARD_NAME)
    return {name: card[name] for name in TOLD if name in card}


def curves(work: Work) -> None:
    """All points of all runs as one file and one picture."""
    found = {run: read_points(work.folder(run) / "curve") for run in RUNS}
    found = {run: points for run, points in found.items() if points}
    write_json(work.out / "curve.json", {"chosen": work.chosen(), "runs": found})
    if found:
        draw_curves(found, work.out / "curve.png")


def package(work: Work) -> None:
    """The carried student in half precision, as it can be shipped."""
    run = work.options.carry or work.chosen()
    if run is not None:
        student = Path(work.students[run])
        save_clip(load_clip(student), work.out / "package", card=told(student), dtype=torch.float16)


STAGES: Final[Mapping[str, Callable[[Work], Any]]] = {
    "data": lambda work: work.photographs,
    **{
        stage: lambda work, stage=stage: (average if stage in MEANS else distil)(work, stage)
        for run in RUNS
        for stage in (run, *(mean for mean, parts in MEANS.items() if parts[-1] == run))
    },
    "curves": curves,
    "package": package,
    "regions": lambda work: region_scores(work.photographs, work.models, work.out / "regions"),
    "tables": lambda work: table_scores(work.photographs, work.models, work.out / "tables"),
    "segmenter": lambda work: segmenter_scores(work.photographs, work.carried, work.out, scale=work.options.scale),
    "detector": lambda work: detector_scores(work.photographs, work.carried, work.out, scale=work.options.scale),
    "report": lambda work: write_report(work.photographs, work.models, work.chosen(), work.out),
}
"""Stage -> what it does, in this order: a mean as soon as the last of its runs is there."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the stages that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of photo_pool and coco_sample")
    parser.add_argument("--model", default="clipself-mini", help="the CLIP to refine")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=list(STAGES), metavar="STAGE")
    parser.add_argument("--scale", type=float, default=1.0, help="shares of all steps, for a first look")
    parser.add_argument("--caltech", action="store_true", help="distil on Caltech 101 of pretrain_images too")
    parser.add_argument(
        "--carry", choices=[*RUNS, *MEANS], help="run that is carried on and packaged; the best if not given"
    )
    parser.add_argument("--points", type=int, help="of each curve; the run's own if not given")
    parser.add_argument("--batch-size", type=int, help="of all runs; each run's own if not given")
    parser.add_argument("--workers", type=int, help="processes that read pictures; none if not given")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--keep-image", type=float, help="as in clipself distill; the recipe's if not given")
    parser.add_argument("--keep-crops", type=float, help="likewise")
    work = Work(parser.parse_args(arguments))
    for stage in [stage for stage in STAGES if stage in work.options.stages]:
        print(f"--- {stage}", flush=True)
        STAGES[stage](work)
    path = work.out / "report.md"
    if path.exists():
        print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
