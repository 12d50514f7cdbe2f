"""Texts as OWL-ViT is trained on them: a canonical form, prompts, and labels that must not be seen.

Source: OWL-ViT (arXiv:2205.06230, appendix A1.5) and its release.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

from clipself.text.templates import load_templates
from clipself.text.vocabulary import load_vocabulary

MARK: Final = "#"
"""Ahead of a text that gets no prompt, such as a free description; removed when it is asked for."""

NEAR_RARE: Final = ("apple sauce", "chess board", "omelette", "sea plane")
"""Other spellings of rare LVIS names that we know to be on the published list of 275 near duplicates."""


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

    Compared for equality in canonical form with marks and dashes deleted: "first-aid kit" is among them, "first aid
    kit" is not.

    Args:
        text: A label of another data set.
        forbidden: Texts; those of `rare_labels` if not given.
    """
    listed = rare_labels() if forbidden is None else frozenset(map(_bare, forbidden))
    return _bare(text) in listed


@cache
def rare_labels() -> frozenset[str]:
    """The 337 rare names of LVIS and the near duplicates that are known here, as they are compared."""
    vocabulary = load_vocabulary("lvis_v1_1203")
    rare = [name for name, often in zip(vocabulary.names, vocabulary.frequency, strict=True) if often == "r"]
    return frozenset(map(_bare, (*rare, *NEAR_RARE)))


def _bare(text: str) -> str:
    return canonical(text).replace(MARK, "").replace("-", "")
