"""One grammar for the names that people type, on the command line and in Python."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from clipself.text.vocabulary import VOCABULARIES, Vocabulary, load_vocabulary

Names = str | Path | Sequence[str | Path] | Vocabulary
"""What may stand where names are asked for."""


def parse_names(names: Names, *, stuff: Names = ()) -> Vocabulary:
    """Reads names as they were typed.

    Each word is one of three: a packaged vocabulary by its exact name ("coco_80"); a text file with one class a line
    (it ends in ".txt"; synonyms follow after commas); or names themselves. A comma separates classes: "cat, dog" is
    two, as `cat dog` is in two words. Where synonyms are wanted, semicolons separate the classes and commas the
    synonyms: "cat, kitten; dog" is two classes, "cat, kitten;" is one.

    Args:
        names: A word, several words, or a vocabulary.
        stuff: More of them, which are stuff and not things (grass, sky); a name that is in both is stuff.

    Returns:
        The classes in the order they were typed, `stuff` last.

    Raises:
        ValueError: There are no names, or one is there twice.
        FileNotFoundError: A text file is missing.
    """
    things, masses = _read(names, is_thing=True), _read(stuff, is_thing=False)
    if masses:
        said = {name for vocabulary in masses for name in vocabulary.names}
        things = [vocabulary.with_stuff(said) for vocabulary in things]
        known = {name for vocabulary in things for name in vocabulary.names}
        rest = [name for vocabulary in masses for name in vocabulary.names if name not in known]
        masses = [Vocabulary.of(rest, is_thing=False)] if rest else []
    parts = things + masses
    if not parts:
        raise ValueError("there are no names to look for; pass at least one, such as names=['cat', 'dog']")
    return parts[0] if len(parts) == 1 else sum(parts[1:], parts[0])


def listed(words: Names | None) -> list[str] | None:
    """The class names that some words mean, for classes that training may or may not see; None where none were given.

    Raises:
        ValueError: A name is there twice, or there are none.
        FileNotFoundError: A text file is missing.
    """
    return None if words is None else list(parse_names(words).names)


def _read(names: Names, *, is_thing: bool) -> list[Vocabulary]:
    if isinstance(names, Vocabulary):
        return [names]
    words = [names] if isinstance(names, str | Path) or not isinstance(names, Iterable) else list(names)
    wrong = [word for word in words if not isinstance(word, str | Path)]
    if wrong:
        raise ValueError(f"names hold {wrong[0]!r:.60} of type {type(wrong[0]).__name__}, expected words or text files")
    found: list[Vocabulary] = []
    typed: list[str] = []
    for word in words:
        if isinstance(word, Path) or word.endswith(".txt") or word in VOCABULARIES:
            loaded = load_vocabulary(word)
            if not is_thing and word not in VOCABULARIES:
                loaded = Vocabulary.of(loaded.names, name=loaded.name, is_thing=False)
            found += [Vocabulary.of(typed, is_thing=is_thing)] if typed else []
            found, typed = [*found, loaded], []
        else:
            typed += split_word(word)
    return found + ([Vocabulary.of(typed, is_thing=is_thing)] if typed else [])


def split_word(word: str) -> list[str]:
    """The classes of a typed word: between semicolons where there are any, else between commas."""
    return [name.strip() for name in word.split(";" if ";" in word else ",") if name.strip()]
