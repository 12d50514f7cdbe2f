"""Nouns of captions: the names of the packaged vocabularies that a sentence holds."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from clipself.text.synonyms import split_synonyms
from clipself.text.templates import spoken_name
from clipself.text.vocabulary import VOCABULARIES, load_vocabulary

PEOPLE: Final = ("baby", "boy", "child", "girl", "kid", "lady", "man", "player", "woman")
"""Nouns of most captions that no vocabulary of classes has."""
IRREGULAR: Final[Mapping[str, str]] = {
    "children": "child", "feet": "foot", "geese": "goose", "knives": "knife", "leaves": "leaf", "loaves": "loaf",
    "men": "man", "mice": "mouse", "people": "person", "scarves": "scarf", "sheep": "sheep", "shelves": "shelf",
    "teeth": "tooth", "women": "woman",
}  # fmt: skip
"""Plural -> the one."""


@cache
def known_nouns() -> frozenset[str]:
    """Names of all packaged vocabularies as they are spoken, without what stands in brackets."""
    names = {name for key in VOCABULARIES for one in load_vocabulary(key).names for name in split_synonyms(one)}
    spoken = {re.sub(r"\s*\(.*?\)", "", spoken_name(name, drop_suffixes=True)).strip() for name in names}
    return frozenset(name for name in spoken if name) | frozenset(PEOPLE)


def nouns_of(caption: str) -> tuple[str, ...]:
    """The nouns of a sentence that are known, each once, in the order of the sentence.

    The longest name wins ("traffic light", not "light"); plurals are told as the one.
    """
    words = re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", caption.lower())
    nouns, longest = known_nouns(), _longest()
    found: dict[str, None] = {}
    place = 0
    while place < len(words):
        for length in range(min(longest, len(words) - place), 0, -1):
            *ahead, last = words[place : place + length]
            name = next((said for one in _ones(last) if (said := " ".join([*ahead, one])) in nouns), None)
            if name is not None:
                found[name] = None
                place += length
                break
        else:
            place += 1
    return tuple(found)


@cache
def _longest() -> int:
    return max(len(name.split()) for name in known_nouns())


def _ones(word: str) -> list[str]:
    """A word, and what it may be the plural of."""
    told = [word, IRREGULAR.get(word, word)]
    if word.endswith("ies"):
        told.append(f"{word[:-3]}y")
    if word.endswith("es"):
        told.append(word[:-2])
    if word.endswith("s"):
        told.append(word[:-1])
    return told
