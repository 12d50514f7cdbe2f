"""What the pages of this project print: code blocks, the commands in them, and flags anywhere."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "src/clipself/backbones").glob("*/MODEL_CARD.md")),
)
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_NAME: Final = re.compile(r"\$\{?(\w+)\}?")


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is where it begins."""

    page: str
    line: int
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [Block(name, text.count("\n", 0, found.start()) + 2, *found.groups()) for found in _FENCE.finditer(text)]


def commands(block: Block, names: dict[str, str] | None = None) -> list[list[str]]:
    """The words after `clipself` of every line that calls it; `names` are what earlier blocks have set."""
    names = {} if names is None else names
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(_NAME.sub(lambda one: names.get(one[1], one[0]), line), comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            name, _, value = words.pop(0).partition("=")
            names[name] = value
        if words[:1] == ["torchrun"]:
            words = words[words.index("-m") + 1 :]
        if words[:1] == ["clipself"]:
            found.append(words[1:])
    return found


def shell_commands(page: Path) -> list[list[str]]:
    """Those of a page, in order."""
    names: dict[str, str] = {}
    shell = [block for block in blocks(page) if block.language in ("", "sh", "bash", "console")]
    return [words for block in shell for words in commands(block, names)]


def flags(text: str) -> set[str]:
    """Everything that is written as a long flag."""
    return set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*)", text))
