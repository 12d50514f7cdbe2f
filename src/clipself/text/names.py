"""One grammar for the names that people type, on the command line and in Python."""

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from clipself.text.templates import spoken_name
from clipself.text.vocabulary import LISTS, VOCABULARIES, Vocabulary, count_up, load_vocabulary

log = logging.getLogger(__name__)

Names = str | Path | Sequence[str | Path] | Vocabulary
"""What may stand where names are asked for."""

NO_LIST: Final = "names come from words, or from a text file (.txt) of one name a line"

FILES: Final = (
    r".*\.(csv|tsv|jsonl?|ya?ml|pbtxt|xml|xlsx?|lst|text|md|toml|data|np[yz]|pth?|pkl|safetensors|png|jpe?g|webp|bmp"
    r"|tiff?)"
)
"""Names of files that nobody calls a thing."""

NO_NAMES: Final = {
    r"[\[{].*[\]}]|\(\s*['\"].*\)": "is a list in JSON or Python; write the names alone, between commas",
    r"(['\"]).*\1": "is in quotes; write the names alone, between commas",
    r".*\w\s+\.(\s.*)?|\w[\w ]{2,}\.(\s+\w[\w ]{2,}\.)+": "has dots between names; write commas",
    FILES: f"is the name of a file; {NO_LIST}",
}  # fmt: skip
"""How a word looks, whatever its case, that can mean no name -> what it is."""

FAMILIES: Final = ("coco", "cocostuff", "ovcoco", "lvis", "ade20k", "voc", "pascalvoc", "pascalcontext")
"""Words that name a data set, without their signs, and may yet be names."""


def parse_names(names: Names, *, stuff: Names = ()) -> Vocabulary:
    """Reads names as they were typed.

    Each word is one of three: a packaged vocabulary by its exact name ("coco_80"); a text file with one class a line
    (it ends in ".txt" or ".names"; synonyms follow after commas); or names themselves. A comma separates classes: "cat,
    dog" is two, as `cat dog` is in two words. Where synonyms are wanted, semicolons or ends of lines separate the
    classes and commas the synonyms: "cat, kitten; dog" is two classes, "cat, kitten;" is one.

    Args:
        names: A word, several words, or a vocabulary.
        stuff: More of them, which are stuff and not things (grass, sky); a name that is in both is stuff.

    Returns:
        The classes in the order they were typed, `stuff` last.

    Raises:
        ValueError: There are no names, one is there twice, or a word is a file or a list in another form.
        FileNotFoundError: A text file is missing.
    """
    things, masses = _read(names, is_thing=True), _read(stuff, is_thing=False)
    if masses:
        said = {name for vocabulary in masses for name in vocabulary.names}
        things = [vocabulary.with_stuff(said) for vocabulary in things]
        known = {spoken_name(name) for vocabulary in things for name in vocabulary.names}
        rest = [name for vocabulary in masses for name in vocabulary.names if spoken_name(name) not in known]
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
    words = [names] if isinstance(names, str | Path) or not isinstance(names, Iterable) else in_order(names)
    wrong = [word for word in words if not isinstance(word, str | Path)]
    if wrong:
        raise ValueError(f"names hold {wrong[0]!r:.60} of type {type(wrong[0]).__name__}, expected words or text files")
    found: list[Vocabulary] = []
    typed: list[str] = []
    for word in words:
        if isinstance(word, Path) or word.lower().endswith(LISTS) or word in VOCABULARIES:
            loaded = load_vocabulary(word)
            if not is_thing and word not in VOCABULARIES:
                loaded = Vocabulary.of(loaded.names, name=loaded.name, is_thing=False)
            found += [Vocabulary.of(typed, is_thing=is_thing)] if typed else []
            found, typed = [*found, loaded], []
        elif re.search(r"[/\\.]", word) and _is_file(word):
            raise ValueError(f"{word!r:.80} is a file; {NO_LIST}")
        else:
            typed += split_word(word)
    return found + ([Vocabulary.of(typed, is_thing=is_thing)] if typed else [])


def in_order(names: Iterable[Any]) -> list[Any]:
    """Names as a list, whose places are their labels.

    Raises:
        ValueError: They are a set, which has another order in every process.
    """
    if isinstance(names, set | frozenset):
        raise ValueError(f"names are a {type(names).__name__}, which has no order; pass a list")
    return list(names)


def class_names(names: Any) -> list[str]:
    """Names that a caller lists, each as it stands, the text of one class.

    Raises:
        ValueError: They are no list of texts, or one is empty, a file's name, or a packaged vocabulary's.
    """
    if isinstance(names, str) or not isinstance(names, Iterable | Vocabulary):
        said = f"the single string {names!r}; wrap it in a list" if isinstance(names, str) else f"{names!r:.60}"
        raise ValueError(f"names must be a list of strings, got {said}")
    listed = list(names.names) if isinstance(names, Vocabulary) else in_order(names)
    for name in listed:
        if not isinstance(name, str):
            raise ValueError(f"names hold {name!r:.60} of type {type(name).__name__}, expected strings")
        if not name.strip():
            raise ValueError("one of the names is empty; remove it")
        if name in VOCABULARIES or name.lower().endswith(LISTS):
            call = "load_vocabulary" if name in VOCABULARIES else "parse_names"
            raise ValueError(f"{name!r} is no name of one class; pass clipself.text.{call}({name!r})")
        if re.fullmatch(FILES, name, re.IGNORECASE):
            raise ValueError(f"{name!r:.80} is the name of a file; {NO_LIST}")
    return listed


def split_word(word: str) -> list[str]:
    """The classes of a typed word: between semicolons or lines where there are several, else between commas.

    Raises:
        ValueError: The word is like the name of a file or of a vocabulary, or a list in another form.
    """
    word = word.strip()
    _check_word(word)
    parts = re.split(r"[;\r\n]", word)
    found = [name.strip() for name in (word.split(",") if len(parts) == 1 else parts) if name.strip()]
    if count_up(found):
        raise ValueError(f"the names {word!r:.60} are numbered; write the names alone, between commas")
    return found


def _is_file(word: str) -> bool:
    """Whether a word is the path of a file here, however long it is."""
    try:
        return Path(word).is_file()
    except (OSError, ValueError):
        return False


def _check_word(word: str) -> None:
    why = next((said for sign, said in NO_NAMES.items() if re.fullmatch(sign, word, re.IGNORECASE)), "")
    if why:
        raise ValueError(f"{word!r:.80} {why}")
    plain = {re.sub(r"\W|_", "", name): name for name in VOCABULARIES}
    asked = re.sub(r"\W|_", "", word.lower())
    if asked in plain:
        raise ValueError(f"{word!r} is no name; the packaged vocabulary is {plain[asked]!r}")
    if asked in FAMILIES:
        near = [name for letters, name in plain.items() if asked in letters]
        log.warning("%r is taken as the name of one class; the packaged vocabularies are %s", word, ", ".join(near))
