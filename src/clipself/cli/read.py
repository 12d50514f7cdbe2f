"""From the words of a command line to one checked config."""

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints, overload

import tyro

from clipself.engine.config import checked, unchecked
from clipself.engine.fields import UNSET, build, kinds_of
from clipself.engine.resolve import changed, goes_on, read_config, recipe, renamed, settings_of_run
from clipself.renamed import FIELDS, GONE_IN

C = TypeVar("C")

RESUMES: Final = (["auto"], ["True"], ["False"])
"""What may follow `--resume`."""

LAUNCH: Final = "Many GPUs: torchrun --nproc-per-node N -m clipself {command} ..."


def read_words(
    kind: type[C],
    words: Sequence[str],
    *,
    command: str,
    about: str,
    recipes: Mapping[str, Callable[[], C]] | None = None,
) -> C:
    """The config that the words of a command mean.

    `--recipe` and `--config` set the defaults that all other options replace; a run that goes on takes them from its
    own folder.

    Args:
        kind: Class of settings.
        words: What follows the command's name.
        command: Its name.
        about: What it does, for its help.
        recipes: Complete settings by name, the default one first.

    Raises:
        ValueError: A value does not fit, or a recipe or file is not what it should be.
        FileNotFoundError: The config file, or the run to go on with, is not there.
        SystemExit: A flag is unknown or missing, or help was asked for.
    """
    rest = positions_first(kind, rename_flags(kind, list(words)))
    rest = spell_resume(rest) if "resume" in kinds_of(kind) else rest
    rest, file = take_option(rest, "--config")
    rest, name = take_option(rest, "--recipe") if recipes else (rest, None)
    if name is not None and file is not None:
        raise ValueError("--config and --recipe both give all settings; choose one of them")
    base = _starting_point(kind, rest, recipes, name, file)
    if recipes:
        chosen = name or file or next(iter(recipes))
        about += f" --recipe NAME chooses the defaults below (one of {', '.join(recipes)}; now {chosen})."
        about += " --config FILE takes them from a JSON or YAML file. " + LAUNCH.format(command=command)
    options: dict[str, Any] = {}
    if base is not None:
        rest, base = _adjusted(rest, base)
        options["default"] = _asking(base)
    with unchecked():  # what does not fit is told as a sentence, not in tyro's frame
        config: C = tyro.cli(
            kind,
            args=rest,
            prog=f"clipself {command}",
            description=about,
            config=(tyro.conf.AvoidSubcommands,),
            **options,
        )
    return checked(config)


def rename_flags(kind: type, words: Sequence[str]) -> list[str]:
    """Old flags as new ones, each with a line that tells the new one."""
    table, told = FIELDS.get(kind.__name__, {}), []
    for word in words:
        flag, equals, value = word.partition("=")
        negated = "no-" if flag.startswith("--no-") and flag[5:].replace("-", "_") in table else ""
        new = table.get(flag.removeprefix(f"--{negated}").replace("-", "_")) if flag.startswith("--") else None
        if new is None:
            told.append(word)
            continue
        new, switch, chosen = new.partition("=")
        if switch:
            print(f"clipself: {flag} is now --{new} {chosen}; the old flag goes in version {GONE_IN}", file=sys.stderr)
            told += [] if negated else [f"--{new}", chosen]
            continue
        outer, dot, inner = new.rpartition(".")
        spelled = f"--{outer}{dot}{negated}{inner}".replace("_", "-")
        print(f"clipself: {flag} is now {spelled}; the old flag goes in version {GONE_IN}", file=sys.stderr)
        told.append(spelled + equals + value)
    return told


def spell_resume(words: Sequence[str]) -> list[str]:
    """`--resume` alone as `--resume True`: it may be followed by `auto`."""
    spelled: list[str] = []
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag == "--resume" and equals:
            spelled += [flag, value]
        elif flag in ("--resume", "--no-resume"):
            told = [] if flag == "--resume" and words[place + 1 : place + 2] in RESUMES else [str(flag == "--resume")]
            spelled += ["--resume", *told]
        else:
            spelled.append(word)
    return spelled


def positions_first(kind: type, words: list[str]) -> list[str]:
    """Values of a field that needs no flag, moved to the front where somebody gave it one."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if tyro.conf.Positional not in getattr(hint, "__metadata__", ()):
            continue
        flag = f"--{name.replace('_', '-')}"
        words = [part for word in words for part in (word.split("=", 1) if word.startswith(f"{flag}=") else [word])]
        while flag in words:
            start = words.index(flag)
            end = _next_flag(words, start + 1)
            lead = _next_flag(words, 0)
            words = words[:lead] + words[start + 1 : end] + words[lead:start] + words[end:]
    return words


def _next_flag(words: list[str], start: int) -> int:
    return next((place for place in range(start, len(words)) if words[place].startswith("--")), len(words))


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


def _starting_point(
    kind: type[C],
    words: list[str],
    recipes: Mapping[str, Callable[[], C]] | None,
    name: str | None,
    file: str | None,
) -> C | None:
    """The defaults; None where the class's own are meant."""
    if file is not None:
        return _from_table(kind, read_config(file))
    if not recipes:
        return None
    _, out = take_option(words, "--out")
    _, resume = take_option(words, "--resume")
    if name is None and out is not None and goes_on({"True": True}.get(str(resume), resume), out):
        return _from_table(kind, settings_of_run(Path(out)))
    return recipe(recipes, name or next(iter(recipes)))


def _from_table(kind: type[C], held: Mapping[str, Any]) -> C:
    """A table of settings as a config; what it lacks but must be given stays unset."""
    required = [each for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]  # type: ignore[arg-type]
    config: C = build(kind, {**{each.name: UNSET for each in required if each.init}, **renamed(kind, held)})
    return config


def _adjusted(words: list[str], base: C) -> tuple[list[str], C]:
    """Defaults that depend on what was typed: another length, another method with settings of its own."""
    given = {word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--")}
    if "epochs" in given and "max_steps" not in given:
        base = changed(base, {"max_steps": None})
    for flag in sorted(
        flag for flag in given if flag.endswith(".method") or hasattr(getattr(base, flag, 0), "changed")
    ):
        outer = flag.removesuffix(".method")  # a name alone stands for nested settings too
        words, method = take_option(words, f"--{flag}")
        base = changed(base, {outer: {"method": method}})
    return words, base


def _asking(config: C) -> C:
    """A copy in which tyro asks for what is unset."""
    asked = copy.copy(config)
    for each in fields(config):  # type: ignore[arg-type]
        if getattr(config, each.name) is UNSET:
            object.__setattr__(asked, each.name, tyro.MISSING)
    return asked
