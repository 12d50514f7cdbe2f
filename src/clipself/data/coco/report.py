"""What was read of a file against what it lists: counted while reading, told in one line."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

EXAMPLES: Final = 3
"""Places that are kept of each thing that was noticed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remark:
    """One kind of thing that was noticed.

    Attributes:
        what: In words, such as "boxes without width or height left out".
        count: How often.
        examples: The first places.
    """

    what: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.examples)
        return f"{self.count} {self.what} ({shown}{', ...' if self.count > len(self.examples) else ''})"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadReport:
    """What a reader made of a file.

    Attributes:
        source: The file.
        kind: What it holds: "instances", "panoptic", "results", "masks", ...
        listed: Name of a part ("pictures", "rows", "classes") -> how many the file lists.
        read: The same parts -> how many are used.
        remarks: What was left out, or understood in another way than written.
    """

    source: str
    kind: str
    listed: Mapping[str, int]
    read: Mapping[str, int]
    remarks: tuple[Remark, ...] = ()

    def to_line(self) -> str:
        """Counts and remarks in one line."""
        counts = ", ".join(f"{self.read.get(part, 0)} of {count} {part}" for part, count in self.listed.items())
        noticed = "".join(f"; {remark}" for remark in self.remarks)
        return f"{Path(self.source).name} ({self.kind}): {counts}{noticed}"

    def remarked(self) -> list[str]:
        """The line, for a table of scores, where something was noticed; else nothing."""
        return [self.to_line()] if self.remarks else []

    def to_table(self) -> str:
        """Counts and remarks, a line each."""
        width = max(len(part) for part in self.listed)
        lines = [f"{part:<{width}}  {self.read.get(part, 0)} of {count}" for part, count in self.listed.items()]
        noticed = [f"noticed: {remark}" for remark in self.remarks] or ["nothing to remark"]
        return "\n".join([f"{self.source}: {self.kind}", *lines, *noticed])

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the JSON of an evaluation."""
        return {
            "source": self.source,
            "kind": self.kind,
            "listed": dict(self.listed),
            "read": dict(self.read),
            "remarks": [{"what": one.what, "count": one.count, "examples": list(one.examples)} for one in self.remarks],
        }

    def tell(self) -> "ReadReport":
        """Logs the line, as a warning if something was noticed; the first of several processes speaks for all."""
        if os.environ.get("RANK", "0") == "0":
            log.log(logging.WARNING if self.remarks else logging.INFO, "%s", self.to_line())
        return self


def drawn_scenes(count: int) -> ReadReport:
    """That of scenes that are drawn when they are asked for: there is no file that could hold anything else."""
    return ReadReport(source="scenes", kind="generated", listed={"pictures": count}, read={"pictures": count})


@dataclass(kw_only=True, slots=True)
class Notes:
    """Counts what is noticed while a file is read."""

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, place: str) -> None:
        """One more of a kind."""
        self.counts[what] = self.counts.get(what, 0) + 1
        if self.counts[what] <= EXAMPLES:
            self.places.setdefault(what, []).append(place)

    def copy(self) -> "Notes":
        """The same so far, to go on with."""
        return Notes(counts=dict(self.counts), places={what: list(some) for what, some in self.places.items()})

    def remarks(self) -> tuple[Remark, ...]:
        """All of them so far."""
        return tuple(
            Remark(what=what, count=count, examples=tuple(self.places[what])) for what, count in self.counts.items()
        )
