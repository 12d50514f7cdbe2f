"""What is done so far, a line at a time on disk: from it a stopped job goes on."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from clipself.files import read_json, write_json


@dataclass(frozen=True)
class Journal:
    """A file of JSON lines in a folder, and a card that says what they were made with.

    Args:
        folder: Of the run.
    """

    LINES: ClassVar[str]
    """File of the lines."""
    CARD: ClassVar[str]
    """File of the card."""
    WHAT: ClassVar[str]
    """What messages call the lines."""

    folder: Path

    @property
    def path(self) -> Path:
        """One JSON a line."""
        return self.folder / self.LINES

    @property
    def card(self) -> Path:
        """Settings and pictures."""
        return self.folder / self.CARD

    def begin(self, made_with: Mapping[str, Any], *, overwrite: bool) -> int:
        """Opens the folder, cuts off a line that was half written, and says how many are done.

        Args:
            made_with: What the lines depend on.
            overwrite: Whether lines that were made with something else may go.

        Raises:
            ValueError: There are lines that were made with something else.
        """
        made_with = json.loads(json.dumps(made_with))  # as it will be read back
        if overwrite:
            self.path.unlink(missing_ok=True)
        elif self.path.exists():
            held = read_json(self.card, what=f"card of {self.WHAT}") if self.card.exists() else {}
            other = next((key for key in {**held, **made_with} if held.get(key) != made_with.get(key)), None)
            if other is not None:
                raise ValueError(
                    f"{self.folder} holds {self.WHAT} that were made with other {other} ({held.get(other)!r:.60}, now "
                    f"{made_with.get(other)!r:.60}); choose another folder, or begin anew with overwrite (--overwrite)"
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.card, made_with)
        return self._repair()

    def _repair(self) -> int:
        if not self.path.exists():
            return 0
        count = end = 0
        with self.path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                count, end = count + 1, end + len(line)
        os.truncate(self.path, end)
        return count

    def add(self, line: str) -> None:
        """One more line; what is there is on disk."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def lines(self) -> Iterator[str]:
        """All lines."""
        if self.path.exists():
            with self.path.open(encoding="utf-8") as stream:
                yield from stream
