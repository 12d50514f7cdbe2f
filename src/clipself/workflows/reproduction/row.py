"""What a row of a table is: one measurement by a command of this package, with its settings and what they lie on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Kind = Literal["data", "weights", "made"]


@dataclass(frozen=True, slots=True)
class From:
    """Stands in settings for a path that is known when a row is run.

    Attributes:
        kind: Below which folder: "data", "weights", or "made" for what a command of `MADE` writes.
        name: Row of `DATA`, `WEIGHTS` or `MADE`.
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One command with its settings, some of them `From`."""

    command: str
    settings: Mapping[str, Any]

    def places(self) -> Iterator[From]:
        """What the settings stand on."""
        return places_in(self.settings)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        name: "table2/eva-b16"; the part behind the slash is that of its file.
        title: What the paper calls it.
        measure: The command that measures it; None for one that cannot be run at all.
        also: What must lie there besides what the settings name, such as the PNGs beside a panoptic JSON.
        cannot: Why it cannot be run, whatever lies there.
        note: What a reader of the figures should know.
    """

    name: str
    title: str
    measure: Step | None = None
    also: tuple[From, ...] = ()
    cannot: str = ""
    note: str = field(default="")

    @property
    def table(self) -> str:
        """Row of `TABLES`."""
        return self.name.split("/")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table of the paper.

    Attributes:
        title: What it shows.
        columns: Score -> its heading; all in percent.
        rows: From the top down.
    """

    title: str
    columns: Mapping[str, str]
    rows: tuple[Row, ...]


EVA: Final = {"b16": "EVA02-B-16", "l14": "EVA02-L-14-336"}
"""Our names of the paper's towers."""


def places_in(value: Any) -> Iterator[From]:
    """Every `From` at any depth."""
    if isinstance(value, From):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from places_in(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from places_in(inner)


def put_paths(value: Any, path_of: Callable[[From], str]) -> Any:
    """Settings with a path, or whatever `path_of` gives, in place of every `From`."""
    if isinstance(value, From):
        return path_of(value)
    if isinstance(value, Mapping):
        return {name: put_paths(inner, path_of) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return tuple(put_paths(inner, path_of) for inner in value)
    return value
