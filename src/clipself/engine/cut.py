"""How the images of a step are cut among processes and micro-batches; a run goes on with others, to equal weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Of one step, of images of the first kind.

    Attributes:
        batch_size: Images of one process in a micro-batch.
        accumulate: Micro-batches.
        processes: How many there are.
        unit: An epoch is a whole number of so many images: of a micro-batch over all processes as the run began. What
            is seen when follows from it alone, however the steps are cut later.
    """

    batch_size: int
    accumulate: int
    processes: int
    unit: int

    @classmethod
    def at_first(cls, *, batch_size: int, accumulate: int, processes: int) -> "Cut":
        """Of a run that begins."""
        return cls(
            batch_size=batch_size, accumulate=accumulate, processes=processes, unit=batch_size * processes
        )  # fmt: skip

    @property
    def images(self) -> int:
        """Of a step, over all processes."""
        return self.batch_size * self.parts

    @property
    def parts(self) -> int:
        """Micro-batches of a step, over all processes."""
        return self.accumulate * self.processes

    def to_json(self) -> dict[str, int]:
        """What is kept of the cut with which a run began."""
        return {"batch_size": self.batch_size, "accumulate": self.accumulate, "processes": self.processes}

    def sized(self, begun: "Cut", size: int) -> int:
        """Images of another kind in a micro-batch, of which there were so many as the run began."""
        return size * begun.parts // self.parts


def cut_again(
    begun: Cut, *, batch_size: int, accumulate: int, processes: int, whole: bool, sizes: Sequence[int] = ()
) -> Cut:
    """The cut of a run that goes on: a step keeps its images.

    Args:
        begun: The cut with which it began.
        batch_size: As the settings have it now; where both are as then, they are made to fit other processes.
        accumulate: So too.
        processes: How many there are now.
        whole: Whether images of a micro-batch, over all processes, learn from one another: it then stays one.
        sizes: Images of other kinds in a micro-batch of then.

    Raises:
        ValueError: A step would have other images, or cannot be cut for so many processes.
    """
    if (batch_size, accumulate) != (begun.batch_size, begun.accumulate):
        given = Cut(batch_size=batch_size, accumulate=accumulate, processes=processes, unit=begun.unit)
        if given.images != begun.images or (whole and accumulate != begun.accumulate) or not _fits(given, begun, sizes):
            raise ValueError(
                f"a step of this run has {_described(begun)}; batch_size={batch_size} and accumulate={accumulate} on "
                f"{processes} make other steps; leave both out, they are made to fit"
            )
        return given
    if processes == begun.processes:
        return begun
    made = _cuts(begun, processes, whole=whole, sizes=sizes)
    if not made:
        fitting = [count for count in range(1, begun.images + 1) if _cuts(begun, count, whole=whole, sizes=sizes)]
        learns = ", which learn from one another in a micro-batch" if whole else ""
        raise ValueError(
            f"a step of this run has {_described(begun)}{learns}; they cannot be cut for {processes} processes, "
            f"but for {', '.join(map(str, fitting))}"
        )
    held = [cut for cut in made if cut.batch_size <= batch_size]
    return held[0] if held else made[-1]


def _cuts(begun: Cut, processes: int, *, whole: bool, sizes: Sequence[int]) -> list[Cut]:
    """All that are possible, fewest micro-batches first."""
    counts = [begun.accumulate] if whole else range(1, begun.images // processes + 1)
    made = []
    for accumulate in counts:
        size, rest = divmod(begun.images, accumulate * processes)
        cut = Cut(batch_size=size, accumulate=accumulate, processes=processes, unit=begun.unit)
        if size and not rest and _fits(cut, begun, sizes):
            made.append(cut)
    return made


def _fits(cut: Cut, begun: Cut, sizes: Sequence[int]) -> bool:
    return all(size * begun.parts % cut.parts == 0 for size in sizes)


def _described(cut: Cut) -> str:
    return f"{cut.images} images ({cut.batch_size} in each of {cut.accumulate} micro-batches on {cut.processes})"


def read_cut(held: Mapping[str, Any]) -> Cut:
    """What `to_json` gave."""
    return Cut.at_first(**{name: int(held[name]) for name in ("batch_size", "accumulate", "processes")})
