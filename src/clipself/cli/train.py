"""How every `train` command reads its words: a recipe or a file gives the defaults, a resumed run its own."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, overload

import tyro

from clipself.engine.config import RunConfig
from clipself.engine.fields import UNSET, build
from clipself.engine.resolve import changed, read_config, recipe, renamed, settings_of_run
from clipself.engine.result import TrainResult

C = TypeVar("C", bound=RunConfig)


def read_run(
    kind: type[C], recipes: Mapping[str, Callable[[], C]], words: Sequence[str], *, command: str, about: str
) -> C:
    """The settings of a training command.

    Args:
        kind: Class of settings.
        recipes: Complete settings by name, the default one first.
        words: What follows the command.
        command: Its name.
        about: What it does.

    Raises:
        ValueError: There is no such recipe or setting, or a value does not fit.
        FileNotFoundError: The config file, or the run to go on with, is not there.
    """
    rest, name = take_option(list(words), "--recipe")
    rest, file = take_option(rest, "--config")
    if name is not None and file is not None:
        raise ValueError("--config and --recipe both give all settings; choose one of them")
    defaults = _defaults(kind, recipes, rest, name, file)
    for field in fields(kind):
        rest, method = take_option(rest, f"--{field.name}.method")
        if method is not None:
            defaults = changed(defaults, {field.name: {"method": method}})
    given = {word[2:].split("=")[0].replace("-", "_") for word in rest if word.startswith("--")}
    if "epochs" in given and "max_steps" not in given:
        defaults = changed(defaults, {"max_steps": None})
    return tyro.cli(
        kind,
        default=_with_missing(defaults),
        args=rest,
        config=(tyro.conf.AvoidSubcommands,),
        prog=f"clipself {command}",
        description=(
            f"{about} --recipe NAME chooses the defaults below (one of {', '.join(recipes)}; now "
            f"{name or file or next(iter(recipes))}), --config FILE takes them from a JSON or YAML file. Many GPUs: "
            f"torchrun --nproc-per-node N -m clipself {command} ..."
        ),
    )


def say(result: TrainResult) -> int:
    """Prints the result, once however many processes there are; returns the exit code."""
    if os.environ.get("RANK", "0") == "0":
        print(result.to_table())
    return 0


@overload
def take_option(words: list[str], option: str) -> tuple[list[str], str | None]: ...


@overload
def take_option(words: list[str], option: str, *, default: str) -> tuple[list[str], str]: ...


def take_option(words: list[str], option: str, *, default: str | None = None) -> tuple[list[str], str | None]:
    """Takes `--option VALUE` or `--option=VALUE` out of the words.

    Raises:
        ValueError: The value is missing.
    """
    for place, word in enumerate(words):
        if word.startswith(f"{option}="):
            return words[:place] + words[place + 1 :], word.split("=", 1)[1]
        if word == option:
            if place + 1 == len(words):
                raise ValueError(f"{option} needs a value")
            return words[:place] + words[place + 2 :], words[place + 1]
    return words, default


def _defaults(
    kind: type[C], recipes: Mapping[str, Callable[[], C]], words: list[str], name: str | None, file: str | None
) -> C:
    _, out = take_option(words, "--out")
    first: C = recipe(recipes, name or next(iter(recipes)))
    if file is not None:
        return _over(first, kind, read_config(file))
    if "--resume" in words and name is None and out is not None:
        return _over(first, kind, settings_of_run(Path(out)))
    return first


def _over(first: C, kind: type[C], held: Mapping[str, Any]) -> C:
    """A table of settings as a config; what it lacks but must be given stays unset."""
    values = renamed(kind, held)
    unset = {field.name: UNSET for field in fields(kind) if getattr(first, field.name) is UNSET}
    config: C = build(kind, {**unset, **values})
    return config


def _with_missing(config: C) -> C:
    """A copy in which tyro asks for what is unset."""
    asked = copy.copy(config)
    for field in fields(config):
        if getattr(config, field.name) is UNSET:
            object.__setattr__(asked, field.name, tyro.MISSING)
    return asked
