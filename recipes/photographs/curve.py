"""Points of a curve: what a student says of photographs that were held back, at fixed steps of its training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.data.labelled import LabelledImages
from clipself.engine.callbacks import Progress
from clipself.files import write_atomically, write_json
from clipself.regions.evaluate import score_regions

TITLES: Final = {
    "boxes": "dense boxes", "thing_masks": "thing masks", "stuff_masks": "stuff masks", "crops": "own crops",
    "stuff_crops": "own stuff crops", "whole": "whole image", "like": "likeness to the original",
}  # fmt: skip
"""Measure -> its title. All in percent: mean class accuracy of regions, mean average precision of the names in a whole
image, and 100 times the mean cosine of a whole image's embedding with the original's."""
DENSE: Final = ("boxes", "thing_masks", "stuff_masks")
"""What a run is chosen by."""


class Curve:
    """Measures a student at fixed steps, ahead of the state of that step: a killed run repeats what it had not kept.

    Args:
        folder: Where a file a step is written.
        every: Steps from point to point; the last step is one too.
        data: Labelled photographs that no student sees.
        original: What the student was made of.
        image_size: Side at which the dense map is read, in pixels.
    """

    def __init__(self, folder: Path, *, every: int, data: LabelledImages, original: DenseCLIP, image_size: int) -> None:
        self.folder, self.every, self.data = folder, every, data
        self.original, self.image_size = original, image_size

    def begin(self, student: DenseCLIP) -> None:
        """The point ahead of the first step."""
        if not self._path(0).exists():
            self._measure(0, student)

    def __call__(self, progress: Progress) -> None:
        """The callback of a step."""
        if progress.step % self.every == 0 or progress.step == progress.total_steps:
            student: Any = progress.model
            self._measure(progress.step, student.clip.copy())

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:06d}.json"

    def _measure(self, step: int, student: DenseCLIP) -> None:
        found = measure(student.eval(), self.data, original=self.original, image_size=self.image_size)
        write_json(self._path(step), {"step": step, **found})


def measure(clip: DenseCLIP, data: LabelledImages, *, original: DenseCLIP, image_size: int) -> dict[str, float | None]:
    """All of `TITLES` that the labels know; None where there is nothing of a kind."""
    report = score_regions(clip, data, image_size=image_size, workers=0, progress=False)
    scores = {mode: score.top1 for mode, score in report.scores.items()}
    return {name: round(value, 3) for name, value in {**scores, **whole_images(clip, data, original=original)}.items()}


@torch.no_grad()
def whole_images(clip: DenseCLIP, data: LabelledImages, *, original: DenseCLIP) -> dict[str, float]:
    """Whole images at the model's own size: do the names that are there come first, and how near is the original?"""
    text_KD = embed_names(clip, data.class_names).rows_SD
    precisions, cosines = list[float](), list[float]()
    for index in range(len(data)):
        held = data.read(index)
        pixels = clip.preprocess(held.image, size=clip.image_size)[None].to(clip.device)
        ours_1D, theirs_1D = clip.encode_image(pixels), original.encode_image(pixels)
        cosines.append(float((ours_1D * theirs_1D).sum()))
        if len(held.labels_R):
            precisions.append(average_precision((ours_1D @ text_KD.T)[0], held.labels_R.unique()))
    mean = sum(precisions) / len(precisions) if precisions else 0.0
    return {"whole": 100 * mean, "like": 100 * sum(cosines) / len(cosines)}


def average_precision(scores_K: Tensor, present_N: Tensor) -> float:
    """Mean precision at the rank of each name that is there."""
    order = scores_K.argsort(descending=True).tolist()
    ranks = sorted(order.index(label) + 1 for label in present_N.tolist())
    return sum(place / rank for place, rank in enumerate(ranks, start=1)) / len(ranks)


def read_points(folder: Path) -> list[dict[str, Any]]:
    """All points of a run, by their steps."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("[0-9]*.json"))]


def dense_of(point: Mapping[str, Any]) -> float:
    """The mean of what a run is chosen by."""
    held = [point[name] for name in DENSE if point.get(name) is not None]
    return sum(held) / len(held)


def draw_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> Path:
    """A panel a run: every measure over its steps, the original's crops as a line to reach."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 4.0 * len(curves), 3.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (title, points) in zip(panels, curves.items(), strict=True):
        for place, name in enumerate(name for name in TITLES if name != "like"):
            values = [point.get(name) for point in points]
            if any(value is not None for value in values):
                steps = [point["step"] for point in points]
                axes.plot(steps, values, color=f"C{place}", marker="o", markersize=3, label=TITLES[name])
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("percent")
    panels[-1].legend(frameon=False, fontsize=8)
    return write_atomically(path, lambda part: figure.savefig(part, format="png"))
