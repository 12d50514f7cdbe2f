"""What is labelled so far, a line a picture: from it a stopped run goes on, and from it all formats are written."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipself.data.images import FoundPictures
from clipself.data.labels.objects import LabelledPicture
from clipself.files import read_json, write_json


@dataclass(frozen=True, slots=True)
class Journal:
    """`labels.jsonl` of a folder, and `label.json`, which says what it was made with.

    Args:
        folder: Of the run.
    """

    folder: Path

    @property
    def path(self) -> Path:
        """One JSON a line: a picture with its objects, or one that was left out with the reason."""
        return self.folder / "labels.jsonl"

    @property
    def card(self) -> Path:
        """Settings and pictures."""
        return self.folder / "label.json"

    def begin(self, made_with: Mapping[str, Any], *, overwrite: bool) -> int:
        """Opens the folder, cuts off a line that was half written, and says how many pictures are done.

        Args:
            made_with: What labels depend on.
            overwrite: Whether labels that were made with something else may go.

        Raises:
            ValueError: There are labels that were made with something else.
        """
        made_with = json.loads(json.dumps(made_with))  # as it will be read back
        if overwrite:
            self.path.unlink(missing_ok=True)
        elif self.path.exists():
            held = read_json(self.card, what="card of labels") if self.card.exists() else {}
            other = next((key for key in {**held, **made_with} if held.get(key) != made_with.get(key)), None)
            if other is not None:
                raise ValueError(
                    f"{self.folder} holds labels that were made with other {other} ({held.get(other)!r:.60}, now "
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
        """One more picture; what is there is on disk."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def __iter__(self) -> Iterator[LabelledPicture]:
        for line in self._lines():
            if '"left_out"' not in line[:14]:
                yield LabelledPicture.from_line(line)

    def left_out(self) -> list[dict[str, str]]:
        """Pictures that could not be read or answered, with the reason."""
        return [json.loads(line) for line in self._lines() if '"left_out"' in line[:14]]

    def _lines(self) -> Iterator[str]:
        if self.path.exists():
            with self.path.open(encoding="utf-8") as stream:
                yield from stream


def line_of_left_out(file: str, reason: str) -> str:
    """The line of a picture without an answer."""
    return json.dumps({"left_out": file, "reason": reason})


def digest_of(listed: FoundPictures) -> str:
    """Tells one list of pictures from another."""
    told = hashlib.sha256()
    for picture in listed:
        told.update(f"{picture.file}\0".encode("utf-8", "surrogateescape"))
    return told.hexdigest()[:16]
