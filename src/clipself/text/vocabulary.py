"""Ordered class names, with what is known of each: thing or stuff, base or novel, how frequent."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Final

from clipself.choices import pick
from clipself.files import read_json, read_text
from clipself.text.templates import spoken_name

FOLDER: Final = Path(__file__).parent / "names"

VOCABULARIES: Final = {
    name: FOLDER / f"{name}.json"
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

LISTS: Final = (".txt", ".names")
"""Suffixes of lists of one name a line."""

BLANK: Final = " \t\r\n\x00\u00a0\u200b\u2060\ufeff"
"""What stands around a name and is not seen."""

FORMS: Final = {
    r"[\[{].*[\]}]?|\]|\}": "JSON",
    r"\(\s*['\"].*": "a tuple of Python",
    r"(?:names|nc|path|train|val)\s*:.*|[\w ]+:(?:\s*[\[{].*)?": "YAML",
    r"n\d{8}\b.*": "a number of WordNet's",
    r"-\s.*": "a list in YAML",
    r"(['\"]).*\1,?": "in quotes",
    r".*;.*": "several names in a line, between semicolons",
    r"\|.*\|": "a row of a table",
    r"[*\u2022\u00b7]\s.*": "a list with bullets",
    r"<[!/\w].*>": "HTML",
}
"""How a line looks that is written in another form -> its name."""

FEW: Final = 4
"""Lines up to which a number and a blank ahead of a name may be part of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """An ordered list of classes; the position of a name is its label.

    Attributes:
        name: What the list is called.
        names: Class names as the data set spells them; synonyms follow after commas.
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
        if not all(name.strip() for name in self.names):
            raise ValueError(f"the vocabulary {self.name} holds an empty name; remove it")
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

    @staticmethod
    def of(
        names: Sequence[str], *, name: str = "names", is_thing: bool = True, is_novel: Sequence[bool] = ()
    ) -> "Vocabulary":
        """A vocabulary from names alone; ids count from 1, nothing is novel unless said."""
        count = len(names)
        return Vocabulary(
            name=name, names=tuple(names), ids=tuple(range(1, count + 1)), is_thing=(is_thing,) * count,
            is_novel=tuple(is_novel) or (False,) * count, frequency=("",) * count,
        )  # fmt: skip

    @property
    def base(self) -> tuple[str, ...]:
        """Names that training may see."""
        return tuple(name for name, novel in zip(self.names, self.is_novel, strict=True) if not novel)

    @property
    def novel(self) -> tuple[str, ...]:
        """Names held out."""
        return tuple(name for name, novel in zip(self.names, self.is_novel, strict=True) if novel)

    def with_stuff(self, stuff: Collection[str]) -> "Vocabulary":
        """The same names, of which those are stuff that are spoken like one of `stuff`."""
        spoken = {spoken_name(name) for name in stuff}
        return replace(self, is_thing=tuple(spoken_name(name) not in spoken for name in self.names))

    def __add__(self, other: "Vocabulary") -> "Vocabulary":
        """Both, one after the other; ids count from 1, since two lists may use one id."""
        names = (*self.names, *other.names)
        return Vocabulary(
            name=f"{self.name}, {other.name}", names=names, ids=tuple(range(1, len(names) + 1)),
            is_thing=(*self.is_thing, *other.is_thing), is_novel=(*self.is_novel, *other.is_novel),
            frequency=(*self.frequency, *other.frequency),
        )  # fmt: skip


def load_vocabulary(vocabulary: str | Path) -> Vocabulary:
    """Loads a vocabulary by name, or one name a line from a text file ("#" starts a comment).

    Raises:
        ValueError: The name is unknown, or the file is empty, no UTF-8 text, repeats a name, or is no list of one name
            a line.
        FileNotFoundError: There is no such file.
    """
    path = Path(vocabulary)
    if path.suffix.lower() in LISTS or path.is_file():
        if not path.is_file():
            raise FileNotFoundError(f"no list of names at {path}; check the path")
        lines = (line.split("#")[0].strip(BLANK) for line in read_text(path).splitlines())
        names = [line for line in lines if line]
        _check_form(names, path)
        return Vocabulary.of(names, name=str(path))
    rows = read_json(pick(VOCABULARIES, str(vocabulary), what="vocabulary"))["classes"]
    return Vocabulary(
        name=str(vocabulary),
        names=tuple(row["name"] for row in rows),
        ids=tuple(row["id"] for row in rows),
        is_thing=tuple(row.get("thing", True) for row in rows),
        is_novel=tuple(row.get("novel", False) for row in rows),
        frequency=tuple(row.get("frequency", "") for row in rows),
    )


def count_up(lines: Sequence[str]) -> bool:
    """Whether all lines begin with numbers that count up, from 0 or 1."""
    coins = len(lines) <= FEW and not lines[0].startswith("0") if lines else False  # "1 euro" and "2 euro"
    after = r"[:,.)=|\t]\s*" if coins else r"[:,.)=|\s]\s*"
    counted = [re.match(rf"(\d+)\s*{after}\D", line) for line in lines]
    numbers = [int(one[1]) for one in counted if one is not None]
    return len(lines) > 1 and numbers in ([*range(len(lines))], [*range(1, len(lines) + 1)])


def _numbers_behind(lines: Sequence[str]) -> int | None:
    """The first of several lines that all end with a colour, or with numbers behind a colon or comma; a title may lead.

    One number behind a blank may be part of a name ("boeing 747").
    """
    signs = r"\D.*(?:(?:[\s,:=]+\d+){3}|\s*[:=,]\s*\d+(?:\.\d+)?)"
    start = next((place for place in (0, 1) if len(lines) > place + 1
                  and all(re.fullmatch(signs, line) for line in lines[place:])), None)  # fmt: skip
    return start


def _check_form(lines: Sequence[str], path: Path) -> None:
    """Refuses lists of another form: their signs and numbers would become part of the names.

    Raises:
        ValueError: A line is written in another form, or all begin with numbers that count up.
    """
    pairs = ((number, form) for number, line in enumerate(lines) for sign, form in FORMS.items()
             if re.fullmatch(sign, line))  # fmt: skip
    counted = next((place for place in (0, 1) if count_up(lines[place:])), None)  # below a title too
    table = next((place for place, line in enumerate(lines) if "\t" in line), None)
    whole = [
        (counted, "numbered"),
        (_numbers_behind(lines), "a name with numbers behind it"),
        (table, "a row of a table"),
    ]
    for number, form in chain(pairs, whole):
        if number is not None:
            raise ValueError(
                f"{path} is no list of one name a line: {lines[number]!r:.80} is {form}; write the names alone, one a "
                "line, synonyms after commas"
            )
