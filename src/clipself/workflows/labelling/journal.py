"""What is labelled so far, a line a picture: from it a stopped run goes on, and from it all formats are written."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from clipself.data.labels.objects import LabelledPicture
from clipself.workflows import journal


@dataclass(frozen=True)
class Journal(journal.Journal):
    """`labels.jsonl` of a folder, a picture with its objects a line, or one that was left out; and `label.json`."""

    LINES, CARD, WHAT = "labels.jsonl", "label.json", "labels"

    def __iter__(self) -> Iterator[LabelledPicture]:
        for line in self.lines():
            if '"left_out"' not in line[:14]:
                yield LabelledPicture.from_line(line)

    def left_out(self) -> list[dict[str, str]]:
        """Pictures that could not be read or answered, with the reason."""
        return [json.loads(line) for line in self.lines() if '"left_out"' in line[:14]]


def line_of_left_out(file: str, reason: str) -> str:
    """The line of a picture without an answer."""
    return json.dumps({"left_out": file, "reason": reason})
