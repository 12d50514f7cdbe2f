"""Long sequences of which no list is held: what lies at a place is made when it is asked for."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Made(Sequence[T]):
    """A sequence whose items are made by their index."""

    @abstractmethod
    def make(self, index: int) -> T:
        """The item at an index.

        Raises:
            IndexError: There is none.
        """

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        return self.make(index)


def run_of(ends: Sequence[int] | NDArray[np.int64], index: int) -> tuple[int, int]:
    """In which of several runs, laid end to end, an index lies, and at which place of it.

    Args:
        ends: Items up to the end of each run.
        index: Of all items.
    """
    run = int(np.searchsorted(ends, index, side="right"))
    return run, index - (int(ends[run - 1]) if run else 0)
