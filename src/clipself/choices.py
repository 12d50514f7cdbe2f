"""Names from a table in plain sight, or an error that lists the names; rows imported when they are called."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

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


def later(package: str, module: str, name: str) -> Callable[..., Any]:
    """A class or function whose module is imported when it is called: a table's settings are read without torch.

    Args:
        package: Where the module lies, such as "clipself.segmentation".
        module: Below it.
        name: What is called.
    """

    def call(*parts: Any, **named: Any) -> Any:
        return getattr(import_module(f"{package}.{module}"), name)(*parts, **named)

    return call
