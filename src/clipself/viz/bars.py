"""Bar charts of scores and curves of losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipself.files import write_atomically

TITLES = {
    "boxes": "boxes",
    "thing_masks": "thing masks",
    "stuff_masks": "stuff masks",
    "crops": "thing crops",
    "stuff_crops": "stuff crops",
}


def draw_comparison(
    reports: Sequence[Mapping[str, Any]], *, path: str | Path, names: Sequence[str] | None = None
) -> Path:
    """Bars of top-1 mean class accuracy, one group a mode, one bar a model.

    Args:
        reports: `RegionReport.to_json()` of each model.
        path: PNG to write.
        names: Titles of the models.

    Raises:
        ValueError: There is nothing to draw.
    """
    figure, axes = _new_figure(width=7.5, height=3.6)
    modes = [mode for mode in TITLES if any(mode in report["scores"] for report in reports)]
    if not modes:
        raise ValueError("the reports hold no scores to draw")
    width = 0.8 / len(reports)
    for place, report in enumerate(reports):
        values = [(report["scores"].get(mode) or {}).get("top1") or 0.0 for mode in modes]
        at = [column + (place - (len(reports) - 1) / 2) * width for column in range(len(modes))]
        title = names[place] if names else str(report["model"])
        bars = axes.bar(at, values, width=width * 0.92, label=title, color=f"C{place}")
        axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
    axes.set_xticks(range(len(modes)), [TITLES[mode] for mode in modes])
    axes.set_ylabel("mean class accuracy, %")
    axes.legend(frameon=False, fontsize=9)
    return _write(figure, path)


def draw_loss(records: Sequence[Mapping[str, Any]], *, path: str | Path, term: str = "loss") -> Path:
    """The loss of every step and its running mean.

    Args:
        records: The "train" records of a run.
        path: PNG to write.
        term: One term of the loss, or "loss" for all of it.
    """
    figure, axes = _new_figure(width=6.5, height=3.0)
    steps = [record["step"] for record in records]
    losses = [record[term] for record in records]
    window = max(1, len(losses) // 25)
    smooth = [sum(losses[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(losses))]
    axes.plot(steps, losses, color="C0", alpha=0.25, linewidth=1)
    axes.plot(steps, smooth, color="C0", linewidth=2)
    axes.set_xlabel("step")
    axes.set_ylabel("1 - cosine")
    return _write(figure, path)


def _new_figure(*, width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    return figure, axes


def _write(figure: Any, path: str | Path) -> Path:
    return write_atomically(path, lambda part: figure.savefig(part, format="png"))
