"""What README and docs print works: commands parse, flags exist, blocks run."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from tests.support.pages import PAGES, ROOT, blocks, flags, shell_commands

import clipself
from clipself.cli.commands import COMMANDS, find
from clipself.cli.main import EXIT_CODES
from clipself.cli.read import read_words
from clipself.conformance.run import SYSTEMS, system_of
from clipself.renamed import FIELDS, NAMES
from clipself.workflows.quickstart import next_steps

SHELL = [(page.name, words) for page in PAGES for words in shell_commands(page)]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
GENERAL = {"help", "version", "quiet", "recipe", "config"}
"""Flags that every command, or every training, knows."""
OTHERS = {"nproc-per-node", "nnodes", "rdzv-backend", "rdzv-endpoint", "signal", "runslow", "index-url"}
"""Flags of torchrun, pytest and pip."""


def command_of(words: list[str]) -> str | None:
    return max((name for name in COMMANDS if words[: len(name.split())] == name.split()), key=len, default=None)


def read(words: list[str]) -> Any:
    name = command_of(words)
    assert name is not None, f"no such command: {words}"
    row = COMMANDS[name]
    recipes = find(row.recipes) if row.recipes else None
    return read_words(find(row.settings), words[len(name.split()) :], command=name, about="", recipes=recipes)


def flags_of(settings: type, before: str = "") -> Iterator[str]:
    """Every flag of a class of settings, of what it nests, and of all classes that may stand there."""
    plain = get_type_hints(settings)
    for field, marked in get_type_hints(settings, include_extras=True).items():
        spelled = [one.name for one in getattr(marked, "__metadata__", ()) if getattr(one, "name", None)]
        name, kind = [*spelled, field][0], plain[field]
        if is_dataclass(kind) and isinstance(kind, type):
            for one in family_of(kind):
                yield from flags_of(one, f"{before}{name}.")
        yield f"{before}{name}".replace("_", "-")
        yield f"{before}no-{name}".replace("_", "-")


def family_of(kind: type) -> list[type]:
    children: list[type] = kind.__subclasses__()
    return [kind, *(one for child in children for one in family_of(child))]


def known_flags(name: str) -> set[str]:
    for table in (
        "detection.detectors.table:DETECTORS",
        "segmentation.segmenters:SEGMENTERS",
        "distillation.methods:METHODS",
        "panoptic.generators.learned:LEARNED",
    ):
        find(table)  # its settings are classes by now
    return set(flags_of(find(COMMANDS[name].settings))) | GENERAL


@pytest.mark.parametrize("words", [pytest.param(words, id=f"{page}: {shlex.join(words)}") for page, words in SHELL])
def test_every_printed_command_is_understood(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[0] == "help":
        assert len(words) == 1 or command_of(words[1:])
        return
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "runs/mine/config.json"
    mine.parent.mkdir(parents=True)
    mine.write_text(json.dumps({"data": "photos", "out": "runs/mine"}))
    read([word for word in words if word != "--quiet"])
    assert "is now" not in capsys.readouterr().err, "an old flag"


def test_the_next_steps_that_a_quickstart_prints_are_understood() -> None:
    lines = [line for line in next_steps(Path("report/run/blended")).splitlines() if line.startswith("  clipself ")]
    assert [read(shlex.split(line)[1:]) for line in lines]


def test_the_exit_codes_of_the_readme_are_those_of_the_command() -> None:
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.M)} == set(EXIT_CODES)


def test_the_variables_of_the_environment_are_in_the_readme() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert set(re.findall(r"CLIPSELF_[A-Z]+", source)) == set(re.findall(r"CLIPSELF_[A-Z]+", README))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_targets_of_make_are_there(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    printed = "\n".join([block.text for block in blocks(page)])
    assert set(re.findall(r"^make ([a-z-]+)", printed, flags=re.M)) <= set(targets)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_every_command_is_on_a_page() -> None:
    assert {command_of(words) for _, words in SHELL} >= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_on_a_page_is_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"python (?:benchmarks|examples|recipes)/[^`]*|`train\.py [^`]*`|`--(?:sizes|models)[^`]*`", "", text)
    if page.name == "migrate.md":  # the first column is what others call it
        text = re.sub(r"^\|[^|]*\|", "|", text, flags=re.M)
    known = OTHERS.union(*map(known_flags, COMMANDS))
    assert flags(text) <= known


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_commands_within_sentences_are_ones(page: Path) -> None:
    for span in re.findall(r"`clipself ([a-z][^`]*)`", re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))):
        words = span.split()
        if words[0] == "help":
            continue
        name = command_of(words)
        families = {one.split()[0] for one in COMMANDS}
        assert name or set(words) <= families, span
        if name:
            assert flags(span) <= known_flags(name), span


def renamed_rows() -> Iterator[tuple[str, str, str]]:
    """(command, old, new) of the table in the list of changes; "judge.*" is the old name behind a dot."""
    for line in CHANGES.split("### Renamed")[1].split("\n## ")[0].splitlines():
        cells = [re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split("|")]
        if len(cells) == 3 and all(cells):
            ((command,), olds, (new,)) = cells
            yield from ((command, old, new.replace("*", old)) for old in olds)


def test_every_renamed_setting_is_in_the_list_of_changes() -> None:
    command = {row.settings.split(":")[1]: name for name, row in COMMANDS.items()}
    expected = {
        (command[kind], old, new.replace("=", " ")) for kind, table in FIELDS.items() for old, new in table.items()
    }
    assert set(renamed_rows()) == expected


def test_every_renamed_public_name_is_in_the_list_of_changes() -> None:
    told = set(re.findall(r"`([\w.]+)`", CHANGES.split("### Renamed")[1]))
    public = {old.rpartition(".")[2] for old in NAMES if old.count(".") == 2}  # a room's own, as in clipself.ROOM.NAME
    assert public <= {name.rpartition(".")[2] for name in told}


def test_the_start_page_of_the_reference_links_to_every_room() -> None:
    rooms = {path.parent.name for path in (ROOT / "src/clipself").glob("*/__init__.pyi")}
    assert rooms == set(re.findall(r"`clipself\.(\w+)`", clipself.__doc__ or ""))


def test_every_file_of_golden_numbers_is_one_that_parity_knows() -> None:
    for path in (ROOT / "tests/golden").glob("*.json"):  # README passes them all
        assert system_of(json.loads(path.read_text(encoding="utf-8"))) in SYSTEMS, path.name
