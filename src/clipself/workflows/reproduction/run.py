"""`clipself reproduce` as a function: looks what lies there, runs what can be run, keeps each row that is done."""

import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from clipself.backbones.devices import pick_device
from clipself.choices import pick
from clipself.engine.resolve import resolve
from clipself.files import locked, read_json, without_nan, write_json
from clipself.workflows.peak_memory import PeakMemory
from clipself.workflows.reproduction.calls import CALLS, spell
from clipself.workflows.reproduction.config import ReproduceConfig
from clipself.workflows.reproduction.layout import Layout, look
from clipself.workflows.reproduction.listing import list_rows
from clipself.workflows.reproduction.report import Reproduction, RowResult
from clipself.workflows.reproduction.row import From, Row, Step, put_paths
from clipself.workflows.reproduction.rows import MADE, TABLES, needs_of

log = logging.getLogger(__name__)

FAULTS: Final = (ValueError, OSError, ImportError, FloatingPointError, MemoryError)
"""What a row may end in without ending the others: files that do not fit, an extra that is not installed."""


def reproduce(
    config: ReproduceConfig | Mapping[str, Any] | str | Path | None = None, /, **options: Any
) -> "Reproduction | str":
    """Runs every row of some tables that can be run, and writes one report with the published figures beside ours.

    A row that is done is a file and is not run again; a run that was stopped goes on with the next.

    Args:
        config: All settings, also as a table or a file; or give them as keywords.
        options: Fields of `ReproduceConfig`.

    Returns:
        The report; the text of all rows where `list` is set.

    Raises:
        ValueError: No table, or an unknown row, is named, or a row of `out` was done by other settings.
        FileNotFoundError: Not one of the rows has what it needs; the message names everything that is missing.
        FileExistsError: Another process writes the folder.
    """
    config = resolve(ReproduceConfig, None, config, **options)
    rows = rows_of(config)
    if config.list:
        return list_rows(rows)
    lacking = [name for name in ("tables", "data", "weights") if not getattr(config, name)]
    if lacking:
        raise ValueError(
            f"{', '.join(lacking)} must be given, as in `clipself reproduce table2 --data FOLDER --weights FOLDER`; "
            "`clipself reproduce --list` prints every row and what it needs"
        )
    assert config.data is not None
    assert config.weights is not None
    needs = [place for row in rows for place in needs_of(row)[0]]
    layout = look(needs, data=config.data, weights=config.weights, partial=config.partial_data)
    run = Run(config=config, layout=layout)
    if config.dry_run:
        return Reproduction(rows=tuple(map(run.planned, rows)), missing=layout.message(), settings=config.to_json())
    if layout.lacking and not any(run.can(row) or run.file(row).is_file() for row in rows):
        raise FileNotFoundError(f"none of the {len(rows)} rows can be run. {layout.message()}")
    if layout.lacking:
        log.warning("%s", layout.message())
    with locked(config.out / ".lock", busy=f"another process reproduces into {config.out}"):
        return run.all(rows)


def rows_of(config: ReproduceConfig) -> list[Row]:
    """The rows that are asked for; those of all tables where none is named.

    Raises:
        ValueError: A row is none of these tables.
    """
    rows = {row.name: row for table in config.tables or TABLES for row in TABLES[table].rows}
    return [pick(rows, name, what="row") for name in config.rows] if config.rows else list(rows.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One call of `reproduce`.

    Attributes:
        config: Its settings.
        layout: What lies where.
        results: Rows up to now.
    """

    config: ReproduceConfig
    layout: Layout
    results: list[RowResult] = field(default_factory=list)

    def can(self, row: Row) -> bool:
        """Whether everything that it needs lies there."""
        return row.measure is not None and not row.cannot and not self.layout.why(needs_of(row)[0])

    def planned(self, row: Row) -> RowResult:
        """What would be done for a row, or why nothing can be."""
        why = row.cannot or self.layout.why(needs_of(row)[0])
        return RowResult(
            row=row.name, state="refused" if row.cannot else "missing" if why else "ready", why=why,
            commands=() if why else self.commands(row),
        )  # fmt: skip

    def all(self, rows: list[Row]) -> Reproduction:
        """Runs the rows that can be run, one after another; the report is written after each."""
        for row in rows:
            self.held(row)  # ahead of hours of work: is there a row by other settings?
        with tqdm(total=len(rows), desc="reproducing", unit="row") as bar:
            for row in rows:
                bar.set_postfix_str(row.name)
                self.results.append(self.one(row))
                made = self.report()
                made.write(self.config.out)
                bar.update()
        return made

    def report(self) -> Reproduction:
        """All rows up to now."""
        return Reproduction(rows=tuple(self.results), missing=self.layout.message(), settings=self.config.to_json())

    def one(self, row: Row) -> RowResult:
        """A row as it lies there, or measured now, or why it cannot be."""
        if not self.can(row):
            return self.held(row) or self.planned(row)
        held = self.held(row)
        if held is not None:
            return held
        try:
            return self.measured(row)
        except KeyboardInterrupt:
            done = sum(one.state == "done" for one in self.results)
            raise KeyboardInterrupt(
                f"stopped; {done} rows are done and kept in {self.config.out / 'rows'}, and the same command goes on "
                "with the next"
            ) from None
        except FAULTS as error:
            why = (str(error) or type(error).__name__).splitlines()[0]
            log.error("%s could not be run: %s", row.name, why)
            return RowResult(row=row.name, state="failed", why=why, commands=self.commands(row))

    def measured(self, row: Row) -> RowResult:
        """Makes what the row is made from, measures it, and keeps what was found."""
        assert row.measure is not None
        for made in needs_of(row)[1]:
            self.make(made)
        call, settings = CALLS[row.measure.command], self.settings(row)
        assert call.found is not None
        begun = time.perf_counter()
        with PeakMemory(pick_device(self.config.device)) as memory:
            found = call.found(call.run(**settings))
        result = RowResult(
            row=row.name, state="done", scores=dict(found.scores), images=found.images, listed=found.listed,
            minutes=(time.perf_counter() - begun) / 60, memory_mib=memory.mib, commands=self.commands(row),
        )  # fmt: skip
        write_json(self.file(row), without_nan({"key": self.key(row), "row": result.kept(), "report": found.report}))
        return result

    def make(self, place: From) -> None:
        """Writes a folder of imported weights or prepared labels, if it is not there whole."""
        folder, step = self.path(place), self.step_of(place)
        card = folder.with_name(f"{folder.name}.json")
        key = json.loads(json.dumps({"command": step.command, "settings": step.settings, "stamps": self.stamps(place)}))
        if folder.is_dir() and card.is_file() and read_json(card, what="card of what was made") == key:
            return
        card.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run has left
        CALLS[step.command].run(**step.settings)
        write_json(card, key)

    def step_of(self, place: From) -> Step:
        """The command that makes a folder, its paths put in."""
        step = MADE[place.name]
        settings = {**put_paths(step.settings, lambda one: str(self.path(one))), "out": str(self.path(place))}
        if step.command == "data prepare" and self.config.partial_data:
            settings["partial_archive"] = True
        return Step(command=step.command, settings=settings)

    def settings(self, row: Row) -> dict[str, Any]:
        """Settings of the measurement, its paths put in."""
        assert row.measure is not None
        settings: dict[str, Any] = put_paths(row.measure.settings, lambda place: str(self.path(place)))
        return {**settings, "limit": self.config.limit, "device": self.config.device}

    def commands(self, row: Row) -> tuple[str, ...]:
        """The commands of a row as they are typed, in order."""
        assert row.measure is not None
        made = [self.step_of(place) for place in needs_of(row)[1]]
        steps = [*made, Step(command=row.measure.command, settings=self.settings(row))]
        return tuple(spell(step.command, step.settings) for step in steps)

    def path(self, place: From) -> Path:
        """Where it lies, or will."""
        return self.config.out / "made" / place.name if place.kind == "made" else self.layout.found[place]

    def file(self, row: Row) -> Path:
        """Where a row is kept."""
        return self.config.out / "rows" / f"{row.name}.json"

    def stamps(self, *places: From) -> dict[str, int | None]:
        """Sizes of the files that something is made of, so that another file of the same name is told apart."""
        found = {}
        for place in places:
            for one in MADE[place.name].places() if place.kind == "made" else (place,):
                path = self.layout.found.get(one)
                found[str(one)] = path.stat().st_size if path is not None and path.is_file() else None
        return found

    def key(self, row: Row) -> dict[str, Any]:
        """What the figures of a row depend on; folders may move."""
        assert row.measure is not None
        needs, made = needs_of(row)
        settings = put_paths(row.measure.settings, str)
        key: dict[str, Any] = {
            "command": row.measure.command, "settings": settings, "limit": self.config.limit,
            "made": {place.name: put_paths(MADE[place.name].settings, str) for place in made},
            "stamps": self.stamps(*needs),
        }  # fmt: skip
        plain: dict[str, Any] = json.loads(json.dumps(key))
        return plain

    def held(self, row: Row) -> RowResult | None:
        """What an earlier run has found; None where there is nothing, or it is to be run again.

        Raises:
            ValueError: It was found by other settings or files.
        """
        path = self.file(row)
        if row.measure is None or self.config.overwrite or not path.is_file():
            return None
        kept = read_json(path, what="row of a reproduction")
        key = self.key(row)
        gone = {name for name, size in key["stamps"].items() if size is None}  # a row outlives the files behind it
        theirs = {**kept["key"], "stamps": kept["key"]["stamps"] | dict.fromkeys(gone)}
        differ = [name for name in key if theirs.get(name) != key[name]]
        if differ:
            raise ValueError(
                f"{path} was found by other {' and '.join(differ)}; --overwrite runs it again, another --out keeps it"
            )
        return RowResult(**{**kept["row"], "commands": tuple(kept["row"]["commands"])})
