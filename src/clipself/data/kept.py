"""A list that lies on disk: what is made of a hundred thousand pictures needs no memory."""

import io
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from clipself.data.images.made import Made

T = TypeVar("T")


class Kept(Made[T]):
    """Items in a file without a name, which goes with the list; memory holds eight bytes an item.

    Args:
        folder: Where there is room for it.
        shared: Objects that many items hold, such as a tuple of names; they are written with none of them.
    """

    what: ClassVar[str] = "item"

    def __init__(self, folder: Path, *, shared: Sequence[Any] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # it lives as long as the list
        weakref.finalize(self, self._file.close)
        self._ends = array("Q")
        self._shared = tuple(shared)

    def append(self, item: T) -> None:
        """One more."""
        held = io.BytesIO()
        _Writer(held, self._shared).dump(item)
        end = self._ends[-1] if self._ends else 0
        self._file.seek(end)
        self._file.write(held.getbuffer())
        self._ends.append(end + held.tell())

    def __len__(self) -> int:
        return len(self._ends)

    def make(self, index: int) -> T:
        """Reads an item."""
        begin = self._ends[index - 1] if index else 0
        self._file.seek(begin)
        held = io.BytesIO(self._file.read(self._ends[index] - begin))
        item: T = _Reader(held, self._shared).load()  # of our own file, which nobody else can open
        return item

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (list(self),)  # in another process a plain one


class _Writer(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, shared: Sequence[Any]) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self._places = {id(one): place for place, one in enumerate(shared)}

    def persistent_id(self, obj: Any) -> int | None:
        """The place of a shared object."""
        return self._places.get(id(obj))


class _Reader(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, shared: Sequence[Any]) -> None:
        super().__init__(stream)
        self._shared = shared

    def persistent_load(self, pid: int) -> Any:
        """The shared object at a place."""
        return self._shared[pid]
