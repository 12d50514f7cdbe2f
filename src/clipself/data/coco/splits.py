"""Which classes take part, and which of them training may see: published splits and lists of one's own."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clipself.choices import pick
from clipself.data.coco.kinds import Opened
from clipself.data.coco.report import Notes
from clipself.data.coco.rows import Category, Id, clean_id, read_categories
from clipself.text.names import listed
from clipself.text.vocabulary import load_vocabulary

SPLITS: Final[Mapping[str, str]] = {"ov-coco": "ov_coco_65", "ov-lvis": "lvis_v1_1203"}
"""Published split -> the packaged vocabulary that marks its novel classes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassSplit:
    """Classes in the order of their labels.

    Attributes:
        ids: The data set's own category ids.
        names: Their names.
        is_base: Whether training may see them.
    """

    ids: tuple[Id, ...]
    names: tuple[str, ...]
    is_base: tuple[bool, ...]

    @property
    def base(self) -> list[str]:
        """Names that training may see."""
        return [name for name, base in zip(self.names, self.is_base, strict=True) if base]

    @property
    def novel(self) -> list[str]:
        """Names held out of training."""
        return [name for name, base in zip(self.names, self.is_base, strict=True) if not base]

    def groups(self) -> dict[str, list[Id]]:
        """Category ids of "base", "novel" and "all"."""
        rows = list(zip(self.ids, self.is_base, strict=True))
        return {
            "base": [category for category, base in rows if base],
            "novel": [category for category, base in rows if not base],
            "all": list(self.ids),
        }


def split_classes(
    categories: Sequence[Category] | Sequence[Mapping[str, Any]],
    *,
    split: str | None = None,
    base: Path | str | Iterable[str] | None = None,
    novel: Path | str | Iterable[str] | None = None,
    train: bool = True,
    source: str = "the file",
) -> ClassSplit:
    """Which of a file's classes take part, and which of them training may see; in the order of their ids.

    Args:
        categories: The file's "categories", checked or as parsed.
        split: "ov-coco" (48 base, 17 novel, 15 left out) or "ov-lvis" (rare is novel), which go by COCO's or LVIS's
            ids and names together.
        base: Names, or a text file of them; with `novel` alone given, all others.
        novel: Names held out; neither given: every class is base.
        train: Whether there must be a base class; a detector may be scored on classes that it never saw.
        source: The file, for messages.

    Raises:
        ValueError: A name is not in the file, is in both lists, the file numbers its classes in another way than the
            split does, or no class is left.
    """
    ordered = _checked(categories)
    if split is not None:
        kept, flags = _published(ordered, split, source)
    else:
        kept, flags = _own(ordered, base, novel, source)
    if train and not any(flags):
        raise ValueError(f"no class is left to train on of {source}; list some names as base")
    return ClassSplit(ids=tuple(one.id for one in kept), names=tuple(one.name for one in kept), is_base=tuple(flags))


def _checked(categories: Sequence[Any]) -> Sequence[Category]:
    if all(isinstance(row, Category) for row in categories):
        return categories
    opened = Opened(source="the classes", kind="instances", value={"categories": list(categories)})
    used = {clean_id(row.get("id")) for row in categories if isinstance(row, Mapping)}
    return read_categories(opened, used, Notes())


def _published(ordered: Sequence[Category], split: str, source: str) -> tuple[list[Category], list[bool]]:
    vocab = load_vocabulary(pick(SPLITS, split, what="split"))
    marked = {number: (name, novel) for number, name, novel in zip(vocab.ids, vocab.names, vocab.is_novel, strict=True)}
    own = {_plain(name): number for number, name in zip(vocab.ids, vocab.names, strict=True)}
    kept = [one for one in ordered if one.id in marked]
    for one in kept:
        name, _ = marked[int(one.id)]
        if _plain(name) != _plain(one.name):
            raise ValueError(
                f"the split {split} goes by ids and names: its class {one.id} is {name!r}, in {source} it is "
                f"{one.name!r}; pass base and novel names instead (--base, --novel)"
            )
    moved = next((one for one in ordered if own.get(_plain(one.name), one.id) != one.id), None)
    if moved is not None or not kept:
        what = f"none of its classes is in {source}" if moved is None else (
            f"{moved.name!r} is its class {own[_plain(moved.name)]}, in {source} it is {moved.id}"
        )  # fmt: skip
        raise ValueError(
            f"the split {split} goes by ids and names: {what}; pass base and novel names instead (--base, --novel)"
        )
    return kept, [not marked[int(one.id)][1] for one in kept]


def _plain(name: str) -> str:
    """A name without the differences of spelling between releases: case, underscores, brackets."""
    return " ".join(re.split(r"[\W_]+", name.casefold())).strip()


def _own(
    ordered: Sequence[Category],
    base: Path | str | Iterable[str] | None,
    novel: Path | str | Iterable[str] | None,
    source: str,
) -> tuple[list[Category], list[bool]]:
    names = [one.name for one in ordered]
    held_out, seen = _names(novel), _names(base)
    for some, what in ((held_out, "novel"), (seen, "base")):
        unknown = sorted(set(some or ()) - set(names))
        if unknown:
            raise ValueError(f"the {what} name {unknown[0]!r} is not a category of {source}; it has {names[:6]} ...")
    both = sorted(set(held_out or ()) & set(seen or ()))
    if both:
        raise ValueError(f"{both[0]!r} of {source} is listed as base and as novel; it can be only one")
    apart = set(held_out or ())
    wanted = set(seen) | apart if seen is not None else set(names)
    kept = [one for one in ordered if one.name in wanted]
    return kept, [one.name not in apart for one in kept]


def _names(given: Path | str | Iterable[str] | None) -> list[str] | None:
    if given is None:
        return None
    return listed(given) if isinstance(given, Path | str) else list(given)
