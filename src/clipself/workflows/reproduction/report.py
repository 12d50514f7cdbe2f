"""What a reproduction found: text for people, JSON, Markdown and one page of HTML, published figures beside ours."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from clipself.files import without_nan, write_json, write_text
from clipself.text.columns import align
from clipself.viz.report import ReportPage
from clipself.workflows.reproduction.published import PUBLISHED, RECALLED, SOURCES
from clipself.workflows.reproduction.row import Row, Table
from clipself.workflows.reproduction.rows import TABLES

State = Literal["done", "ready", "missing", "refused", "failed"]

STATES: Final[Mapping[str, str]] = {
    "done": "done", "ready": "can be run", "missing": "not run: something is missing", "refused": "cannot be run",
    "failed": "could not be run",
}  # fmt: skip
LEGEND: Final = "in percent, here / published / difference; * is recalled and not read again"


@dataclass(frozen=True, kw_only=True, slots=True)
class RowResult:
    """What became of a row.

    Attributes:
        row: Its name.
        state: Row of `STATES`.
        why: Why it was not run.
        scores: Score -> percent; None where there was nothing to score.
        images: How many pictures were seen.
        listed: How many the data holds.
        minutes: What the measurement took; what was made for it is not counted.
        memory_mib: The most that was held meanwhile; None where the system does not say.
        commands: As they are typed.
    """

    row: str
    state: State
    why: str = ""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    images: int = 0
    listed: int = 0
    minutes: float = 0.0
    memory_mib: float | None = None
    commands: Sequence[str] = ()

    def kept(self) -> dict[str, Any]:
        """Plain values for the file of the row."""
        return asdict(self)

    def cell(self, score: str) -> str:
        """Ours, the published figure, and what lies between."""
        ours, figure = self.scores.get(score), PUBLISHED.get(self.row, {}).get(score)
        told = "-" if ours is None or ours != ours else f"{ours:.1f}"
        if figure is None:
            return told if told != "-" else ""
        published = f"{figure.value:.1f}{'*' if figure.source == RECALLED else ''}"
        return f"{told} / {published} / {'-' if told == '-' else f'{ours - figure.value:+.1f}'}"  # type: ignore[operator]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """The whole report.

    Attributes:
        rows: In the order of the tables.
        missing: What is missing and where to get it; empty where nothing is.
        settings: Those of the call.
    """

    rows: tuple[RowResult, ...]
    missing: str
    settings: Mapping[str, Any]

    @property
    def failed(self) -> list[RowResult]:
        """Rows that ended in an error."""
        return [row for row in self.rows if row.state == "failed"]

    def tables(self) -> list[tuple[str, Table, list[RowResult]]]:
        """Each table with its rows."""
        held = {name: [row for row in self.rows if row.row.split("/")[0] == name] for name in TABLES}
        return [(name, TABLES[name], rows) for name, rows in held.items() if rows]

    def to_table(self) -> str:
        """Everything as text: a table each, why rows were not run, the commands of a dry run, what is missing."""
        lines = [LEGEND]
        for name, table, rows in self.tables():
            lines += ["", f"{name}: {table.title}", *align(*cells_of(table, rows), words=1)]
            lines += [
                f"{one.row}: {STATES[one.state]}: {one.why}" for one in rows if one.state in ("refused", "failed")
            ]
            lines += [line for one in rows if one.state == "ready" for line in ("", f"# {one.row}", *one.commands)]
        return "\n".join([*lines, *(["", self.missing] if self.missing else [])])

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN as None; each row with its published figures, their sources and the differences."""
        rows = []
        for one in self.rows:
            figures = PUBLISHED.get(one.row, {})
            differences = {
                score: value - figure.value
                for score, figure in figures.items()
                if (value := one.scores.get(score)) is not None
            }
            published = {score: asdict(figure) for score, figure in figures.items()}
            title = row_of(one.row).title
            rows.append({**asdict(one), "title": title, "published": published, "difference": differences})
        plain: dict[str, Any] = without_nan({"rows": rows, "settings": dict(self.settings), "missing": self.missing})
        return {**plain, "sources": dict(SOURCES), "environment": environment()}

    def to_markdown(self) -> str:
        """The report as Markdown."""
        lines = ["# The paper's tables again", "", told_of(self.settings), "", LEGEND + "."]
        for name, table, rows in self.tables():
            head, body = cells_of(table, rows)
            lines += ["", f"## {name}: {table.title}", "", _line(head), _line(["---"] * len(head)), *map(_line, body)]
            lines += ["", *(f"- `{one.row}`: {STATES[one.state]}: {one.why}" for one in rows if one.why)]
        lines += ["", "## Commands", "", "```", *self.commands(), "```"]
        if self.missing:
            lines += ["", "## What is missing", "", "```", self.missing, "```"]
        return "\n".join(lines) + "\n"

    def commands(self) -> list[str]:
        """Every command once, in order."""
        return list(dict.fromkeys(line for one in self.rows for line in one.commands))

    def write(self, folder: Path) -> None:
        """Writes `reproduction.json`, `reproduction.md` and `reproduction.html`."""
        write_json(folder / "reproduction.json", self.to_json())
        write_text(folder / "reproduction.md", self.to_markdown())
        page = ReportPage("The paper's tables again", lead=f"{told_of(self.settings)} {LEGEND}.")
        for name, table, rows in self.tables():
            page.heading(f"{name}: {table.title}")
            page.table(*cells_of(table, rows))
            for one in rows:
                if one.why:
                    page.paragraph(f"{one.row}: {STATES[one.state]}: {one.why}")
        page.heading("Commands")
        page.code("\n".join(self.commands()))
        if self.missing:
            page.heading("What is missing")
            page.code(self.missing)
        page.write(folder / "reproduction.html")


def row_of(name: str) -> Row:
    """A row by its name."""
    return next(row for row in TABLES[name.split("/")[0]].rows if row.name == name)


def cells_of(table: Table, rows: Sequence[RowResult]) -> tuple[list[str], list[list[str]]]:
    """Head and body of a table; a column that no row has is left out."""
    used = [
        score
        for score in table.columns
        if any(score in row.scores or score in PUBLISHED.get(row.row, {}) for row in rows)
    ]
    body = [
        [
            row_of(row.row).title,
            *(row.cell(score) for score in used),
            f"{row.images:,} of {row.listed:,}" if row.listed else STATES[row.state].split(":")[0],
            f"{row.minutes:.1f}" if row.state == "done" else "",
            "" if row.memory_mib is None else f"{row.memory_mib:.0f}",
        ]
        for row in rows
    ]
    return ["row", *(table.columns[score] for score in used), "images", "min", "MiB"], body


def told_of(settings: Mapping[str, Any]) -> str:
    """What the figures were found with."""
    said = environment()
    limit = f" The first {settings['limit']} pictures only: not to be compared." if settings.get("limit") else ""
    part = " Data sets may be parts: not to be compared." if settings.get("partial_data") else ""
    return f"clipself {said['clipself']}, torch {said['torch']}, device {settings.get('device')}.{limit}{part}"


def environment() -> dict[str, str]:
    """Versions that figures may depend on."""
    import torch

    from clipself import __version__

    return {"clipself": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
