"""Texts as OWL-ViT is trained on them: a canonical form, prompts, and labels that must not be seen.

Source: OWL-ViT (arXiv:2205.06230, appendix A1.5) and its release.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final

from clipself.text.templates import load_templates
from clipself.text.vocabulary import load_vocabulary

MARK: Final = "#"
"""Ahead of a text that gets no prompt, such as a free description; removed when it is asked for."""

OTHER_SPELLINGS: Final = ("omelette", "axe", "baguette", "tuxedo")
"""Of rare LVIS names that no rule of `is_forbidden` finds: LVIS says "omelet", "ax", "baguet" and "tux"."""

PLURALS: Final = (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("s", ""))
"""How a plural ends, and its singular."""


def canonical(text: str) -> str:
    """Lower case, letters a to z, digits, dashes and single blanks; a mark stays where it is the first character."""
    kept = re.sub(r"[^a-z0-9\-# ]", " ", text.lower())
    kept = re.sub(r"-+", "-", re.sub(r" +", " ", kept)).strip()
    first, rest = kept[:1], kept[1:]
    return first + rest.replace(MARK, "")


def prompted(text: str, template: str) -> str:
    """A text in a sentence, in canonical form; a marked one as it is, without its mark."""
    said = canonical(text)
    return said.removeprefix(MARK) if said.startswith(MARK) else canonical(template.replace("{}", said))


def training_templates() -> tuple[str, ...]:
    """The sentences that a training draws from: CLIP's 80, and the name alone."""
    return (*load_templates("imagenet"), "{}")


def is_forbidden(text: str, forbidden: Iterable[str] | None = None) -> bool:
    """Whether a label is among those that no detector may see before it is tested on LVIS' rare classes.

    Compared in canonical form with marks and dashes deleted: "first-aid kit" is among them, "first aid kit" is not.
    Beside the rare names the release forbids 275 labels of other data sets that contain one, chosen by hand. Here a
    label is forbidden that is a rare name in the plural, one of a single word written apart ("apple sauce"), or a kind
    of it ("beef stew"), unless LVIS had to tell the name from another by brackets: "date_(fruit)" forbids no dates.

    Args:
        text: A label of another data set.
        forbidden: Texts, compared for equality; the rare names and what is near them if not given.
    """
    if forbidden is not None:
        return _bare(text) in frozenset(map(_bare, forbidden))
    rare, words = rare_labels(), _bare(text).split()
    if not words:
        return False
    for last in (words[-1], _singular(words[-1])):
        said = [*words[:-1], last]
        if " ".join(said) in rare.all or "".join(said) in rare.single:
            return True
        if any(" ".join(said[place:]) in rare.plain for place in range(1, len(said))):
            return True
    return False


@dataclass(frozen=True, kw_only=True, slots=True)
class RareLabels:
    """The 337 rare names of LVIS and four other spellings, as they are compared.

    Attributes:
        all: Each of them.
        single: Those of a single word.
        plain: Those without brackets.
    """

    all: frozenset[str]
    single: frozenset[str]
    plain: frozenset[str]


@cache
def rare_labels() -> RareLabels:
    """The rare names of the packaged vocabulary."""
    vocabulary = load_vocabulary("lvis_v1_1203")
    rare = [name for name, often in zip(vocabulary.names, vocabulary.frequency, strict=True) if often == "r"]
    named = {name: _bare(name) for name in (*rare, *OTHER_SPELLINGS)}
    return RareLabels(
        all=frozenset(named.values()),
        single=frozenset(bare for bare in named.values() if " " not in bare),
        plain=frozenset(bare for name, bare in named.items() if "(" not in name),
    )


def _singular(word: str) -> str:
    for ending, single in PLURALS:
        if word.endswith(ending):
            return word.removesuffix(ending) + single
    return word


def _bare(text: str) -> str:
    return canonical(text).replace(MARK, "").replace("-", "")
