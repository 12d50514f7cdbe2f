"""Every number of every class of settings: what nothing can mean is refused with the setting's name."""

import dataclasses
import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final, get_args

import pytest

import clipself.cli.commands as commands
from clipself.distillation.config import DistillConfig
from clipself.engine.config import Settings
from clipself.engine.fields import kinds_of
from clipself.segmentation.san.settings import SanSettings
from clipself.workflows.embedding.config import EmbedConfig

REQUIRED: Final[dict[str, Any]] = {
    "annotations": "a.json",
    "archive": "voc-20",
    "checkpoint": "runs/a",
    "data": "pictures",
    "file": "a.json",
    "graph": "graph",
    "images": "pictures",
    "manifests": ("a.json",),
    "method": "fvit",
    "model": "clipself-mini",
    "names": ("a cat",),
    "out": "out",
    "root": "archive",
    "student": "runs/a/student",
    "text": "a cat",
    "weights": "weights.pt",
}
"""A value for each setting that has no default."""

NEGATIVE: Final = frozenset(("bias", "fusion", "pixel_mean", "supervised", "taps"))
"""Places, which the model that they belong to looks up, and what may be of either sign."""

SIDES: Final = frozenset(
    ("image_size", "crop_size", "crop", "canvas", "shortest", "window", "longest", "size", "table_size")
)
"""Sides of pictures in pixels."""

WHOLE: Final = (-1, 10**20, 10**400)
FRACTIONS: Final = (math.nan, math.inf, -math.inf, -1.0, 1e39, 10**400)


def classes(owner: type = Settings) -> Iterator[type]:
    one: type
    for one in owner.__subclasses__():
        yield one
        yield from classes(one)


def numbers(kind: Any) -> set[type]:
    """Which of int and float an annotation holds, at any depth."""
    if kind in (int, float):
        return {kind}
    return set().union(*map(numbers, get_args(kind))) if get_args(kind) else set()


def spoiled(owner: type, name: str, value: Any) -> Any:
    """A value in the place of the first number of a setting."""
    default = next(field.default for field in dataclasses.fields(owner) if field.name == name)
    if isinstance(default, tuple) and default:
        return (value, *default[1:])
    return value


def cases() -> list[Any]:
    for command in commands.COMMANDS.values():
        import_module(f"clipself.{command.settings.split(':')[0]}")
    import_module("clipself.detection.detectors.table")
    found = []
    for owner in dict.fromkeys(classes()):
        own = owner.__module__.startswith("clipself.")  # not those of other tests
        if not own or getattr(import_module(owner.__module__), owner.__name__, None) is not owner:
            continue  # slots make each class twice
        for name, kind in kinds_of(owner).items():
            held = numbers(kind)
            values = [*(WHOLE if int in held else ()), *(FRACTIONS if float in held else ())]
            if name in SIDES and int in held:
                values += [0, 10**9]
            values = [value for value in values if not (name in NEGATIVE and value in (-1, -1.0))]
            if values:
                found.append(pytest.param(owner, name, values, id=f"{owner.__name__}-{name}"))
    return found


@pytest.mark.parametrize(("owner", "name", "values"), cases())
def test_numbers_that_nothing_can_mean_are_refused_by_name(owner: type, name: str, values: list[float]) -> None:
    needed = {
        field.name: REQUIRED[field.name]
        for field in dataclasses.fields(owner)
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if "masks" in kinds_of(owner):
        needed["checkpoint"] = "runs/a"
    if owner is EmbedConfig:  # pictures or names, and boxes for what is said of boxes
        needed |= {"images": ("pictures",), "annotations": "a.json"}
    owner(**needed)  # nothing else is wrong with it
    for value in values:
        with pytest.raises(ValueError, match=name):
            owner(**{**needed, name: spoiled(owner, name, value)})


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", 2e3), ("eps", 2), ("epochs", 2e6), ("max_steps", 2 * 10**9), ("enlarge", 2e3), ("workers", 2000)],
)
def test_slips_of_many_zeros_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}=.* must be at most"):
        DistillConfig(data=Path("pictures"), out=Path("out"), **{name: value})  # type: ignore[arg-type]


def test_a_side_network_looks_at_no_giants() -> None:
    with pytest.raises(ValueError, match=r"clip_scale=1000000000\.0 must be at most 16"):
        SanSettings(clip_scale=1e9)
