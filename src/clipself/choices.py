"""Names from a table in plain sight, or an error that lists the names."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


def pick(table: Mapping[str, T], name: str, *, what: str) -> T:
    """Looks a name up, or says which names there are.

    Args:
        table: The choices by name.
        name: The name asked for.
        what: What the table holds, for the message ("readout", "vocabulary").

    Raises:
        ValueError: The table has no such name; the message lists the names and the nearest one.
    """
    if not isinstance(name, str) or name not in table:
        near = get_close_matches(str(name), table, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown {what} {name!r}, expected one of {sorted(table)}{hint}")
    return table[name]
