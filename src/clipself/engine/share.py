"""Work on many pictures cut among the processes of a run: each does a part, all have all results in their order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

import torch

from clipself.engine.distributed import World
from clipself.engine.stopping import Stopped, StopRequest

T = TypeVar("T")

AT_ONCE: Final = 8
"""Pictures of a process between two exchanges: a request to stop waits no longer than for these."""


def _alone() -> World:
    return World(rank=0, size=1, device=torch.device("cpu"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """This process's part of some work; without arguments all of it.

    Attributes:
        world: This process among its peers.
        stop: Whether somebody asks the run to stop.
    """

    world: World = field(default_factory=_alone)
    stop: StopRequest = field(default_factory=StopRequest)

    def of(self, count: int, work: Callable[[Sequence[int]], Iterable[T]]) -> Iterator[T]:
        """Results for 0 to `count` - 1 in this order, the same in every process; all must take all of them.

        Args:
            count: How many pieces there are.
            work: Is given the pieces of this process, and makes a result for each, one after another, on the CPU where
                there are many processes: they are pickled. No process waits for another within it.

        Raises:
            Stopped: A process was asked to stop.
            Exception: What `work` raised; a ValueError says so in the other processes.
        """
        size, rank = self.world.size, self.world.rank
        mine, at_once = iter(work(range(rank, count, size))), size * AT_ONCE if size > 1 else 1
        for start in range(0, count, at_once):
            wanted = len(range(start + rank, min(count, start + at_once), size))
            part: list[T] = []
            fault: Exception | None = None
            try:
                with self.stop.at_once():
                    part.extend(islice(mine, wanted))
            except Stopped:
                pass  # told to all below
            except Exception as error:
                fault = error
            if code := self.stop.agreed(self.world):
                raise self.stop.stopped("stopped within an evaluation", code=code)
            self.world.agree(fault)
            parts = self.world.every(part)
            for place in range(min(count - start, at_once)):
                yield parts[place % size][place // size]
