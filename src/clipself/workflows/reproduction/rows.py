"""All tables, and what their rows are made from."""

from collections.abc import Mapping
from typing import Final

from clipself.workflows.reproduction.row import From, Row, Step, Table
from clipself.workflows.reproduction.table2 import TABLE2
from clipself.workflows.reproduction.table3 import MADE3, TABLE3A, TABLE3B
from clipself.workflows.reproduction.table4 import MADE4, TABLE4
from clipself.workflows.reproduction.table5 import MADE5, TABLE5

TABLES: Final[Mapping[str, Table]] = {
    "table2": TABLE2, "table3a": TABLE3A, "table3b": TABLE3B, "table4": TABLE4, "table5": TABLE5,
}  # fmt: skip
"""Table -> its rows; also the choices of the command."""

MADE: Final[Mapping[str, Step]] = {**MADE3, **MADE4, **MADE5}
"""Name -> the command that writes `made/NAME`: imported weights, prepared labels. It is made once for all rows."""


def needs_of(row: Row) -> tuple[list[From], list[From]]:
    """What a row stands on.

    Returns:
        What lies below `--data` and `--weights`, and what is made of that.
    """
    made = [] if row.measure is None else [place for place in row.measure.places() if place.kind == "made"]
    told = [*row.also, *(row.measure.places() if row.measure else ())]
    told += [place for one in made for place in MADE[one.name].places()]
    return [place for place in dict.fromkeys(told) if place.kind != "made"], list(dict.fromkeys(made))
