"""What a comparison found: a table for people, JSON for programs, a picture for both."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from clipself.files import without_nan, write_json
from clipself.text.columns import align
from clipself.viz.dots import draw_dots

COLUMNS: Final = {
    "boxes": "boxes", "things": "thing masks", "stuff": "stuff masks", "miou": "mIoU", "pq": "PQ", "kept": "crops kept",
}  # fmt: skip
"""Score -> its title; all in percent, more is better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRow:
    """One model by one readout.

    Attributes:
        model: Its name or folder.
        readout: How its dense map is read.
        scores: Some of `COLUMNS`, in percent; None where there is nothing to score.
        minutes: All measures of this row.
        memory_mib: The most that was held meanwhile; None where the system does not say.
        refused: Why the tower cannot be read so; empty where it can.
    """

    model: str
    readout: str
    scores: Mapping[str, float | None] = field(default_factory=dict)
    minutes: float = 0.0
    memory_mib: float | None = None
    refused: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The whole table.

    Attributes:
        rows: Model by model, readout by readout.
        settings: Everything that the numbers depend on.
        titles: What a model is called in table and picture.
    """

    rows: tuple[ComparedRow, ...]
    settings: Mapping[str, Any]
    titles: Mapping[str, str]

    @property
    def columns(self) -> list[str]:
        """Scores that some row has."""
        return [name for name in COLUMNS if any(row.scores.get(name) is not None for row in self.rows)]

    def best(self, column: str) -> float | None:
        """The highest score of a column; None where all are alike."""
        there = {value for row in self.rows if (value := row.scores.get(column)) is not None}
        return max(there) if len(there) > 1 else None

    def to_table(self) -> str:
        """The scores as aligned text, "*" behind the best of each column; below it what was refused, and why."""
        columns, best = self.columns, {column: self.best(column) for column in self.columns}
        head = ["model", "readout", *(COLUMNS[column] for column in columns), "min", "MiB"]
        body = [
            [
                self.titles[row.model],
                row.readout,
                *(_cell(row.scores.get(column), best[column]) for column in columns),
                "-" if row.refused else f"{row.minutes:.2f}",
                "-" if row.memory_mib is None else f"{row.memory_mib:.0f}",
            ]
            for row in self.rows
        ]
        lines = align(head, body, words=2)
        told = [f"{self.titles[row.model]} {row.readout}: {row.refused}" for row in self.rows if row.refused]
        return "\n".join(["in percent; * is the best of a column", *lines, *told])

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN as None."""
        plain: dict[str, Any] = without_nan(
            {"rows": [asdict(row) for row in self.rows], "settings": dict(self.settings), "titles": dict(self.titles)}
        )
        return plain

    def write(self, folder: Path) -> Path:
        """Writes `comparison.json`, and `comparison.png` where there are scores."""
        several = len({row.model for row in self.rows}) > 1
        columns = [column for column in self.columns if column != "kept" or several]  # no readout changes crops
        readouts = list(dict.fromkeys(row.readout for row in self.rows if not row.refused))
        if columns and readouts:
            models = list(dict.fromkeys(row.model for row in self.rows))
            held = {(row.model, row.readout): row.scores for row in self.rows}
            draw_dots(
                {COLUMNS[column]: {self.titles[model]: [held.get((model, readout), {}).get(column) for readout in
                                                        readouts] for model in models} for column in columns},
                rows=readouts, path=folder / "comparison.png",
            )  # fmt: skip
        return write_json(folder / "comparison.json", self.to_json())


def _cell(value: float | None, best: float | None) -> str:
    return "-" if value is None else f"{value:.1f}{'*' if value == best else ' '}"


def short_titles(models: Sequence[str]) -> dict[str, str]:
    """What is said of each model: its last name where that is enough, else all of it."""
    last = [Path(model).name for model in models]
    return {model: short if last.count(short) == 1 else model for model, short in zip(models, last, strict=True)}
