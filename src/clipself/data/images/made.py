"""Long sequences of which no list is held: what lies at a place is made when it is asked for."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Made(Sequence[T]):
    """A sequence whose items are made by their index."""

    what: ClassVar[str] = "picture"
    """What an error calls an item."""

    @abstractmethod
    def make(self, index: int) -> T:
        """The item at an index that is known to be there, counted from the start."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        index += len(self) if index < 0 else 0
        if not 0 <= index < len(self):
            raise IndexError(f"{self.what} {index} of {len(self)}")
        return self.make(index)


class MadePictures(Made[Path]):
    """Paths of pictures that have names of their own, wherever they lie."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The name of a picture, as `make` is asked for its path."""

    @property
    def names(self) -> "MadeNames":
        """Of all pictures."""
        return MadeNames(self)

    def digest(self) -> str | None:
        """Of all names in their order, where it is known without making them."""
        return None


@dataclass(frozen=True, slots=True)
class MadeNames(Made[str]):
    """The same pictures by their names.

    Attributes:
        pictures: The paths.
    """

    pictures: MadePictures

    def __len__(self) -> int:
        return len(self.pictures)

    def make(self, index: int) -> str:
        """The name of a picture."""
        return self.pictures.name(index)

    def digest(self) -> str | None:
        """See `MadePictures.digest`."""
        return self.pictures.digest()


def run_of(ends: Sequence[int] | NDArray[np.int64], index: int) -> tuple[int, int]:
    """In which of several runs, laid end to end, an index lies, and at which place of it.

    Args:
        ends: Items up to the end of each run.
        index: Of all items.
    """
    run = int(np.searchsorted(ends, index, side="right"))
    return run, index - (int(ends[run - 1]) if run else 0)
