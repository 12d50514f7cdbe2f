"""What a check looked at of a manifest, so that a constant which nobody reads is told and not passed over."""

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import Any


class Watched(dict[str, Any]):
    """A table that remembers which of its values were looked at; tables within it do so too.

    Args:
        held: The table.
    """

    def __init__(self, held: Mapping[str, Any]) -> None:
        super().__init__({name: _watch(value) for name, value in held.items()})
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.seen.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or the default."""
        self.seen.add(name)
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:  # of our own, or `{**table}` would go past `__getitem__`
        return super().__iter__()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]  # typeshed names a type that cannot be imported
        """All names and values."""
        self.seen.update(self)
        return super().items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]  # likewise
        """All values."""
        self.seen.update(self)
        return super().values()

    def beside(self, rest: Mapping[str, Any]) -> "Watched":
        """This table, with what it lacks of another; that is not watched."""
        for name in rest.keys() - self.keys():
            super().__setitem__(name, rest[name])
            self.seen.add(name)
        return self

    def unseen(self, prefix: str = "") -> dict[str, Any]:
        """What nobody looked at, by dotted names; sentences are no constants."""
        found: dict[str, Any] = {}
        for name, value in dict.items(self):
            if name not in self.seen:
                found |= {} if isinstance(value, str) and " " in value else {f"{prefix}{name}": value}
            elif isinstance(value, Watched):
                found |= value.unseen(f"{prefix}{name}.")
            elif isinstance(value, list):
                for place, one in enumerate(value):
                    found |= one.unseen(f"{prefix}{name}.{place}.") if isinstance(one, Watched) else {}
        return found


def _watch(value: Any) -> Any:
    """Tables of tables, and the tables of a list; what those hold is data, which libraries want as plain dicts."""
    if isinstance(value, Mapping):
        return Watched(value)
    return [Row(one) if isinstance(one, Mapping) else one for one in value] if isinstance(value, list) else value


class Row(Watched):
    """A table of a list, whose own tables are not watched."""

    def __init__(self, held: Mapping[str, Any]) -> None:
        dict.__init__(self, held)
        self.seen = set()
