"""Looks whether what a row stands on lies where it should, and says all at once what does not, and where to get it."""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipself.files import no_file
from clipself.workflows.reproduction.places import DATA, Place
from clipself.workflows.reproduction.row import From
from clipself.workflows.reproduction.weights import WEIGHTS

HOURS: Final = "what its training takes was not published"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What was looked for.

    Attributes:
        found: Where each place lies that is whole.
        lacking: What is wrong with each other.
        data: Folder of the data sets.
        weights: Folder of the weights.
    """

    found: Mapping[From, Path]
    lacking: Mapping[From, str]
    data: Path
    weights: Path

    def why(self, places: Iterable[From]) -> str:
        """What is wrong with some places; empty where all are whole."""
        return "; ".join(self.lacking[place] for place in places if place in self.lacking)

    def training(self, place: From) -> list[str]:
        """The commands that make what was never released, with the folders in them."""
        return [line.format(data=self.data, weights=self.weights) for line in place_of(place).training]

    def message(self) -> str:
        """Everything that is missing and where to get it, then what was never released and how to train it."""
        missing = [place for place in self.lacking if not place_of(place).training]
        untrained = [place for place in self.lacking if place_of(place).training]
        lines = [f"{len(missing)} of what the rows need is missing:"] if missing else []
        for source in dict.fromkeys(place_of(place).source for place in missing):
            lines += [f"  {self.lacking[place]}" for place in missing if place_of(place).source == source]
            lines.append(f"    get it: {source}")
        if untrained:
            lines.append(f"{len(untrained)} was never released and has to be trained:")
        for place in untrained:
            held = place_of(place)
            lines.append(f"  {self.lacking[place]}: {held.source}; {held.hours or HOURS}")
            lines += [f"    {line}" for line in self.training(place)]
        return "\n".join(lines)


def place_of(place: From) -> Place:
    """What is known of a place below `--data` or `--weights`."""
    return (DATA if place.kind == "data" else WEIGHTS)[place.name]


def look(places: Collection[From], *, data: Path, weights: Path, partial: bool = False) -> Layout:
    """Looks for everything.

    Args:
        places: What is needed; none of it "made".
        data: Folder of the data sets.
        weights: Folder of the weights.
        partial: Whether folders may hold fewer files than the official ones.
    """
    found: dict[From, Path] = {}
    lacking: dict[From, str] = {}
    for place in dict.fromkeys(places):
        root = data if place.kind == "data" else weights
        wrong = [trouble(root / path, place_of(place), partial=partial) for path in place_of(place).paths]
        paths = [root / path for path, said in zip(place_of(place).paths, wrong, strict=True) if not said]
        if paths:
            found[place] = paths[0]
        else:  # what is there in part says more than what is not there at all
            lacking[place] = next((said for said in wrong if "is not there" not in said), wrong[0])
    return Layout(found=found, lacking=lacking, data=data, weights=weights)


def trouble(path: Path, place: Place, *, partial: bool = False) -> str:
    """What is wrong with a file or folder; empty where nothing is."""
    if not path.exists():
        return f"{path} is not there"
    if not place.holds:
        return no_file(path) if path.is_file() else ""
    for inside, expected in place.holds.items():
        held = path / inside
        if not held.exists():
            return f"{held} is not there"
        if expected is None:
            continue
        count = count_files(held)
        if count == 0 or (count < expected and not partial):
            more = "; --partial-data accepts a part" if count else ""
            return f"{held} holds {count:,} of {expected:,} files{more}"
    return ""


def count_files(folder: Path) -> int:
    """What a folder itself holds, hidden files left out."""
    with os.scandir(folder) as entries:
        return sum(not entry.name.startswith(".") for entry in entries)
