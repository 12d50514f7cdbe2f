"""The map in the docs is true: rooms exist, tables are where it says, and each toy is one file that uses one line."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from clipself.cli.commands import COMMANDS, find

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SECTIONS = {
    title: body for title, body in re.findall(r"### ([a-z ]+)\n\n((?:- .*\n(?:  .*\n)*)+)", PAGE) if "- line:" in body
}
LONGEST = 350
"""Lines of a file."""


def table_of(section: str) -> tuple[str, Path]:
    """Name of the table of a section, and the file that holds it."""
    name, path = re.findall(r"- line: `(\w+)` in `([\w/.]+)`", SECTIONS[section])[0]
    return name, ROOT / path


def test_every_room_is_on_the_map() -> None:
    rooms = {path.name for path in (ROOT / "src/clipself").iterdir() if (path / "__init__.py").is_file()}
    told = set(re.findall(r"`(\w+)/?`", PAGE.split("## A training")[0]))
    assert rooms <= told
    modules = {path.stem for path in (ROOT / "src/clipself").glob("[a-z]*.py")}
    assert modules <= told


@pytest.mark.parametrize("section", SECTIONS)
def test_the_one_line_goes_into_a_table_in_plain_sight(section: str) -> None:
    name, path = table_of(section)
    module = import_module(".".join(path.relative_to(ROOT / "src").with_suffix("").parts))
    assert len(getattr(module, name)) > 0
    assert re.search(rf"^{name}: .*= \{{", path.read_text(encoding="utf-8"), flags=re.M)


TOYS = [section for section, body in SECTIONS.items() if "- toy:" in body]


def test_the_promise_is_kept_for_every_kind_of_part() -> None:
    parts = {"backbone", "readout", "detector", "segmenter", "mask generator", "distillation method", "loss"}
    assert set(TOYS) == parts


@pytest.mark.parametrize("section", TOYS)
def test_a_toy_is_one_file_that_a_test_registers_by_one_line(section: str) -> None:
    table, _ = table_of(section)
    (toy,) = re.findall(r"- toy: `([\w/.]+)`", SECTIONS[section])
    assert (ROOT / toy).is_file()
    module = toy.removesuffix(".py").replace("/", ".")
    users = [path for path in (ROOT / "tests").rglob("*.py") if f"from {module} import" in path.read_text()]
    line = re.compile(rf"setitem\([\w.]*\b{table}, |^{table}\[.*\] = ", flags=re.M)
    lines = [path for path in users if line.search(path.read_text())]
    assert lines, f"no test registers {toy} in {table}"
    for node in ast.walk(ast.parse((ROOT / toy).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            beside = node.module.startswith("tests.") and node.module != "tests.support.tiny"
            assert not beside, f"{toy} needs {node.module} beside itself"


def test_flags_mean_the_same_on_every_command() -> None:
    """A flag of the glossary has one kind of value wherever it stands, and its old rivals stand nowhere."""
    gone = {"models", "data_dir", "inputs", "seen", "unseen", "without", "things", "folder", "methods"}
    for name, command in COMMANDS.items():
        fields = set(find(command.settings).__dataclass_fields__)
        assert not fields & gone, f"{name} still has {sorted(fields & gone)}"


def modules() -> Iterator[Path]:
    yield from (ROOT / "src/clipself").rglob("*.py")


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def test_no_import_runs_in_a_circle() -> None:
    paths = {".".join(path.relative_to(ROOT / "src").with_suffix("").parts): path for path in modules()}
    needs = {}
    for name, path in paths.items():
        found = {
            each
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            for each in (node.module, *(f"{node.module}.{one.name}" for one in node.names))
        }
        needs[name] = found & set(paths) - {name}
    done: set[str] = set()
    while free := [name for name, needed in needs.items() if name not in done and needed <= done]:
        done.update(free)
    assert sorted(set(needs) - done) == []


def test_workers_leave_stopping_to_the_run() -> None:
    """Ctrl-C reaches all processes of a terminal; a loader whose workers die of it cannot end its step."""
    lacking = []
    for path in (ROOT / "src" / "clipself").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DataLoader":
                named = {one.arg for one in node.keywords}
                lacking += [] if named & {"worker_init_fn", None} else [f"{path.relative_to(ROOT)}:{node.lineno}"]
    assert not lacking
