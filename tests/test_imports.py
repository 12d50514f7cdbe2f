"""Rooms import only what lies below them; the offending line is named."""

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "clipself"
LAYERS = (
    ("cli",),
    ("workflows",),
    ("conformance",),
    ("pretraining", "distillation", "detection", "segmentation", "panoptic"),
    ("regions",),
    ("engine",),
    ("backbones", "data", "losses"),
    ("data.images",),
    ("layers", "metrics", "viz", "text"),
    ("structures",),
    ("ops",),
    ("cards",),
    ("files", "choices", "renamed", "threads"),
    ("keys",),
)
"""From the top down; rooms of one row never import each other."""

LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def room_of(parts: Sequence[str]) -> str:
    """The room of a module by its parts below the package; a room in a room has a level of its own."""
    nested = ".".join(parts[:2])
    return nested if nested in LEVEL else parts[0]


def imported(path: Path) -> list[tuple[int, str]]:
    """(line, module) of every import of this package in a file."""
    found = []
    package = ["clipself", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            found.append((node.lineno, ".".join([*base, *([node.module] if node.module else [])])))
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
    return [(line, module) for line, module in found if module.split(".")[0] == "clipself"]


def faults(path: Path) -> list[str]:
    room = room_of([part.removesuffix(".pyi").removesuffix(".py") for part in path.relative_to(SOURCE).parts])
    if room in ("__init__", "__main__"):
        return []
    wrong = []
    for line, module in imported(path):
        other = room_of([*module.split(".")[1:], "__init__"])
        if other not in ("__init__", room) and LEVEL[other] <= LEVEL[room]:
            wrong.append(f"{path.relative_to(SOURCE)}:{line} imports {module}, which does not lie below {room}")
    return wrong


def test_imports_follow_the_arrows() -> None:
    files = [path for suffix in ("*.py", "*.pyi") for path in SOURCE.rglob(suffix)]
    assert len(files) > 60
    assert [fault for path in files for fault in faults(path)] == []


def test_a_wrong_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.SOURCE", tmp_path)
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "bad.py").write_text("import torch\nfrom clipself.engine.loop import Loop\n")
    assert faults(tmp_path / "ops" / "bad.py") == [
        "ops/bad.py:2 imports clipself.engine.loop, which does not lie below ops"
    ]
