"""Old names: found with a warning, and every row leads somewhere."""

import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

import clipself
from clipself import renamed
from clipself.engine.fields import fit, kinds_of


def test_an_old_module_finds_its_names_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed, "MODULES", {"clipself.old_place": ("clipself.choices", "clipself.files")})
    monkeypatch.delitem(sys.modules, "clipself.old_place", raising=False)
    with pytest.warns(FutureWarning, match=r"clipself\.old_place is now clipself\.choices, clipself\.files"):
        old = import_module("clipself.old_place")
    from clipself.choices import pick
    from clipself.files import write_json

    assert (old.pick, old.write_json) == (pick, write_json)
    with pytest.raises(AttributeError, match="its module is now"):
        _ = old.nowhere
    sys.modules.pop("clipself.old_place")


def test_an_old_name_of_a_room_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed, "NAMES", {"clipself.open_clip_model": "clipself.backbones.loading.load_clip"})
    with pytest.warns(FutureWarning, match="open_clip_model is now"):
        old: Any = clipself.open_clip_model  # type: ignore[attr-defined]
    assert old is clipself.load_clip


def test_an_old_name_of_a_module_that_stays_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed, "NAMES", {"clipself.files.write": "clipself.files.write_json"})
    find = renamed.old_names("clipself.files")
    with pytest.warns(FutureWarning, match=r"clipself\.files\.write is now clipself\.files\.write_json"):
        found = find("write")
    assert found.__name__ == "write_json"
    with pytest.raises(AttributeError, match="has no attribute 'wrote'"):
        find("wrote")


@pytest.mark.parametrize("old", sorted(renamed.NAMES))
def test_every_old_name_is_reached_by_its_old_spelling(old: str) -> None:
    module, name = old.rsplit(".", 1)
    if module in renamed.MODULES:
        sys.modules.pop(module, None)  # the warning comes with the import
    with pytest.warns(FutureWarning):
        found = getattr(import_module(module), name)
    assert found is renamed._load(renamed.NAMES[old])


@pytest.mark.parametrize("old", sorted(renamed.MODULES))
def test_rows_of_modules_lead_somewhere(old: str) -> None:
    for new in renamed.MODULES[old]:
        assert isinstance(import_module(new), ModuleType)


@pytest.mark.parametrize("old", sorted(renamed.NAMES))
def test_rows_of_names_lead_somewhere(old: str) -> None:
    module, name = renamed.NAMES[old].rsplit(".", 1)
    assert hasattr(import_module(module), name)


def settings_class(name: str) -> Any:
    """The class of settings of that name, from whichever room has it."""
    rooms = (
        "pretraining",
        "distillation",
        "regions",
        "detection",
        "detection.region_prompt.config",
        "segmentation",
        "panoptic",
        "cli.options",
    )
    found = [getattr(import_module(f"clipself.{room}"), name, None) for room in rooms]
    return next(one for one in found if one is not None)


@pytest.mark.parametrize(("owner", "old"), [(owner, old) for owner, rows in renamed.FIELDS.items() for old in rows])
def test_rows_of_fields_lead_somewhere(owner: str, old: str) -> None:
    held = {field.name for field in fields(settings_class(owner))}
    assert old not in held
    assert is_dataclass(settings_class(owner))
    new, _, chosen = renamed.FIELDS[owner][old].partition("=")
    assert new.split(".")[0] in held
    if chosen:  # a switch that is a value of another field now
        assert fit(chosen, kinds_of(settings_class(owner))[new], new) == (chosen,)
