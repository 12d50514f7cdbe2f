"""Dots of scores: a panel a score, a line a way, a colour a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipself.files import write_atomically

LINE: float = 0.26
"""Height of a line, in inches."""


def draw_dots(
    panels: Mapping[str, Mapping[str, Sequence[float | None]]], *, rows: Sequence[str], path: str | Path
) -> Path:
    """Dots side by side, so that ways can be told apart where differences are small.

    Args:
        panels: Title of a score -> series (a model) -> its value in each row; None where there is none.
        rows: Names of the rows, from the top down.
        path: PNG to write.

    Raises:
        ValueError: There is nothing to draw, or a series has not one value a row.
    """
    wrong = [name for series in panels.values() for name, values in series.items() if len(values) != len(rows)]
    if not panels or not rows or wrong:
        raise ValueError(
            f"{len(panels)} panels of {len(rows)} rows to draw, {wrong[:1]} does not fit; each needs one value a row"
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    longest = max(map(len, rows))
    size = (1.0 + 0.075 * longest + 1.75 * len(panels), 1.1 + LINE * len(rows))
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    every: Any = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, series) in zip(every, panels.items(), strict=True):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="both", alpha=0.25)
        axes.set_axisbelow(True)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8, length=0)
        for place, name in enumerate(names):
            there = [(value, row) for row, value in enumerate(series.get(name, ())) if value is not None]
            axes.scatter(
                [value for value, _ in there], [row for _, row in there], s=26, color=f"C{place}", alpha=0.85,
                label=name, zorder=3,
            )  # fmt: skip
    every[0].set_yticks(range(len(rows)), rows)
    every[0].set_ylim(len(rows) - 0.5, -0.5)
    if len(names) > 1:
        marks, told = every[0].get_legend_handles_labels()
        figure.legend(marks, told, loc="outside upper left", ncols=min(4, len(names)), frameon=False, fontsize=8)
    return write_atomically(path, lambda part: figure.savefig(part, format="png"))
