"""Sentences around a class name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from clipself.choices import pick
from clipself.files import read_text

HERE: Final = Path(__file__).parent / "prompts"

TEMPLATES: Final[Mapping[str, Path | str]] = {
    "name": HERE / "name.txt",
    "simple": HERE / "simple.txt",
    "detection": HERE / "detection.txt",
    "vild": HERE / "vild.txt",
    "detic": HERE / "detic.txt",
    "imagenet": "OPENAI_IMAGENET_TEMPLATES",
    "imagenet-best": "SIMPLE_IMAGENET_TEMPLATES",
}
"""Sets of sentences by name -> their file, or what open_clip calls them: CLIP's 80, and the 7 that do best together.

"detection" is the ViLD-style set of 63 that the published CLIPSelf evaluation uses; "{article}" becomes "a" or "an".
"vild" is the set of 14 that FC-CLIP uses, which takes names as they are; "name" is the name alone, which ODISE's heads
compare with; "detic" is Detic's only one, "a NAME": CLIP hears no capitals, and this one keeps "This is" away.
"""


def load_templates(templates: str | Path) -> list[str]:
    """Loads a set by name, or one sentence a line from a text file; every line needs "{}".

    Raises:
        ValueError: The name is unknown, or a line has no place for the name.
        FileNotFoundError: There is no such file.
    """
    path: Path | str = Path(templates)
    if not str(templates).endswith(".txt"):
        path = pick(TEMPLATES, str(templates), what="set of templates")
    if isinstance(path, str):
        from open_clip import zero_shot_metadata

        return [str(sentence("{}")) for sentence in getattr(zero_shot_metadata, path)]
    if not path.is_file():
        raise FileNotFoundError(f"no templates at {path}; check the path")
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    without = [line for line in lines if "{}" not in line]
    if without or not lines:
        raise ValueError(
            f"{path}: {without[0] if without else 'the file'!r} has no {{}} for the name; write 'a photo of a {{}}.'"
        )
    odd = next((line for line in lines if re.fullmatch(r"\[.*|(['\"]).*\1,?|.*,", line)), None)
    if odd is not None:
        raise ValueError(
            f"{path}: {odd!r:.80} is part of a list in another language, whose signs would be part of the sentence; "
            "write the sentences alone, one a line"
        )
    return lines


def fill_templates(name: str, templates: list[str]) -> list[str]:
    """Puts a class name into each sentence.

    Source: CLIPSelf, released text embeddings: underscores to blanks, "/" to " or ", lower case, no trailing dot; the
    article follows the raw name's first letter; sentences that begin with an article get "This is" in front.

    Args:
        name: Class name as the data set spells it.
        templates: Sentences with "{}" and, where wanted, "{article}".
    """
    article = "an" if name[:1].lower() in "aeiou" else "a"
    spoken = spoken_name(name)
    filled = [line.replace("{article}", article).replace("{}", spoken) for line in templates]
    return [f"This is {line}" if line.startswith(("a ", "an ", "the ")) else line for line in filled]


def spoken_name(name: str, *, drop_suffixes: bool = False) -> str:
    """A class name as it is said.

    Args:
        name: Class name as the data set spells it.
        drop_suffixes: Whether "-other", "-merged" and "-stuff" of the panoptic names are cut off; the published
            embeddings keep them.
    """
    said = name.replace("_", " ").replace("/", " or ").lower().rstrip(".")
    if drop_suffixes:
        said = re.sub(r"(-(other|merged|stuff))+$", "", said)
    return said
