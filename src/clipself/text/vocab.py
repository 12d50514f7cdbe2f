"""Ordered class names, with what is known of each: thing or stuff, base or novel, how frequent."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipself.choices import pick

NAMES: Final = Path(__file__).parent / "names"

VOCABS: Final = {
    name: NAMES / f"{name}.json"
    for name in (
        "coco_80",
        "coco_panoptic_133",
        "coco_stuff_171",
        "ov_coco_65",
        "lvis_v1_1203",
        "ade20k_150",
        "pascal_context_59",
        "pascal_voc_20",
    )
}
"""Vocabularies that ship with the package -> their files; another one is a file and a line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocab:
    """An ordered list of classes; the position of a name is its label.

    Attributes:
        name: What the list is called.
        names: Class names as the data set spells them.
        ids: The data set's own class ids.
        is_thing: Things True, stuff False.
        is_novel: Classes held out of training in the open-vocabulary split.
        frequency: "f", "c" or "r" as in LVIS; "" where unknown.
    """

    name: str
    names: tuple[str, ...]
    ids: tuple[int, ...]
    is_thing: tuple[bool, ...]
    is_novel: tuple[bool, ...]
    frequency: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError(f"the vocabulary {self.name} holds no names; write one name a line")
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(
                f"the vocabulary {self.name} holds {twice[0]!r} more than once; each class needs its own name"
            )
        lengths = {len(self.names), len(self.ids), len(self.is_thing), len(self.is_novel), len(self.frequency)}
        if len(lengths) != 1:
            raise ValueError(f"the vocabulary {self.name} has columns of {sorted(lengths)} rows, expected one length")

    def __len__(self) -> int:
        return len(self.names)


def load_vocab(vocab: str | Path) -> Vocab:
    """Loads a vocabulary by name, or one name a line from a text file ("#" starts a comment).

    Raises:
        ValueError: The name is unknown, or the file is empty or repeats a name.
    """
    path = Path(vocab)
    if path.suffix == ".txt" or path.is_file():
        if not path.is_file():
            raise FileNotFoundError(f"no list of names at {path}; check the path")
        lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
        return plain_vocab([line for line in lines if line], name=path.stem)
    rows = json.loads(pick(VOCABS, str(vocab), what="vocabulary").read_text(encoding="utf-8"))["classes"]
    return Vocab(
        name=str(vocab),
        names=tuple(row["name"] for row in rows),
        ids=tuple(row["id"] for row in rows),
        is_thing=tuple(row.get("thing", True) for row in rows),
        is_novel=tuple(row.get("novel", False) for row in rows),
        frequency=tuple(row.get("frequency", "") for row in rows),
    )


def plain_vocab(names: list[str], *, name: str = "names") -> Vocab:
    """A vocabulary of things from names alone; ids count from 1."""
    count = len(names)
    return Vocab(
        name=name,
        names=tuple(names),
        ids=tuple(range(1, count + 1)),
        is_thing=(True,) * count,
        is_novel=(False,) * count,
        frequency=("",) * count,
    )
