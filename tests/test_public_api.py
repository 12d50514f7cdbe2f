"""The public names of every room, so that a removed one is a decision; regenerate with this file as a script."""

import importlib
import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).with_name("public_api.json")
SOURCE = Path(__file__).parents[1] / "src" / "clipself"
ROOMS = tuple(sorted(".".join(stub.relative_to(SOURCE).parts[:-1]) for stub in SOURCE.glob("*/**/__init__.pyi")))


def names_of(room: str) -> list[str]:
    module = importlib.import_module(f"clipself.{room}" if room else "clipself")
    return sorted(module.__all__)


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_public_names(room: str) -> None:
    listed = json.loads(GOLDEN.read_text())
    assert names_of(room) == listed[room or "clipself"]


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_every_public_name_is_there_and_documented(room: str) -> None:
    module = importlib.import_module(f"clipself.{room}" if room else "clipself")
    for name in module.__all__:
        value = getattr(module, name)
        assert not callable(value) or value.__doc__, f"{room}.{name} says nothing about itself"


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({room or "clipself": names_of(room) for room in ("", *ROOMS)}, indent=1) + "\n")
