"""From what a caller gives to one checked config: the same for Python and the command line."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from clipself.choices import pick
from clipself.engine.fields import UNSET, build, check_names, fit, kinds_of
from clipself.files import read_text
from clipself.keys import once, parse_json
from clipself.renamed import FIELDS, warn_renamed

C = TypeVar("C")


def resolve(
    kind: type[C],
    recipes: Mapping[str, Callable[[], C]] | None,
    config: C | Mapping[str, Any] | str | Path | None = None,
    /,
    *,
    recipe: str | None = None,
    **options: Any,
) -> C:
    """The config that was meant.

    Args:
        kind: Class of settings.
        recipes: Complete settings by name, the default one first; None where there are none.
        config: All settings: an object, a table, or a JSON or YAML file such as a run's `config.json`.
        recipe: Name of the recipe that `options` change; the first if neither it nor a config is given.
        options: Fields of `kind`. Text stands for paths, tables for nested settings; old names warn.

    Raises:
        ValueError: A setting is misspelt, missing, or does not fit.
        FileNotFoundError: There is no such config file, or no run to go on with.
    """
    options = renamed(kind, options)
    check_names(kind, {name.split(".")[0]: None for name in options})
    if isinstance(config, str | Path):
        config = read_config(config)
    if config is not None and recipe is not None:
        raise ValueError("a config and a recipe both give all settings; choose one of them")
    if config is None and recipe is None and "out" in options and goes_on(options.get("resume", False), options["out"]):
        config = settings_of_run(Path(options["out"]))
    base: Any = config
    if config is None and recipes:
        base = pick(recipes, next(iter(recipes)) if recipe is None else recipe, what="recipe")()
    if isinstance(base, Mapping):
        held = renamed(kind, base)
        base = build(kind, merged(held, options))
    elif base is None:
        base = build(kind, options)
    else:
        base = changed(base, options)
    missing = [field.name for field in fields(base) if getattr(base, field.name) is UNSET]
    if missing:
        raise ValueError(f"{', '.join(f'{name}=' for name in missing)} must be given")
    checked: C = base
    return checked


def recipe(table: Mapping[str, Callable[[], C]], name: str, /, **changes: Any) -> C:
    """A recipe by name with some settings replaced; what every run must be given may still be unset.

    Raises:
        ValueError: There is no such recipe or setting.
    """
    return changed(pick(table, name, what="recipe")(), changes)


def changed(config: C, options: Mapping[str, Any]) -> C:
    """A config with some settings replaced; a table replaces some of nested settings.

    A given length in epochs takes the place of a length in steps.

    Raises:
        ValueError: There is no such setting, or a value does not fit.
    """
    check_names(type(config), options)
    kinds = kinds_of(type(config))
    values = dict(options)
    if values.get("epochs") is not None and "max_steps" not in values and "max_steps" in kinds:
        values["max_steps"] = None
    for name, value in values.items():
        held = getattr(config, name)
        if isinstance(value, Mapping | str) and hasattr(held, "changed"):
            values[name] = held.changed({"method": value} if isinstance(value, str) else value)
        elif isinstance(value, Mapping) and is_dataclass(held):
            values[name] = _changed_or_other(held, value, kinds[name], name)
    return replace(config, **values)  # type: ignore[type-var]


def _changed_or_other(held: Any, options: Mapping[str, Any], kind: Any, name: str) -> Any:
    """Nested settings with some replaced; a table that fits another class of the field makes settings of that class."""
    try:
        check_names(type(held), options, prefix=f"{name}.")
        kinds = kinds_of(type(held))
        return replace(held, **{key: fit(value, kinds[key], f"{name}.{key}") for key, value in options.items()})
    except ValueError:
        if kind is type(held):
            raise
        return fit(options, kind, name)


def merged(held: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Tables joined, nested ones too; the second wins."""
    joined = dict(held)
    if options.get("epochs") is not None and "max_steps" not in options:
        joined.pop("max_steps", None)
    for name, value in options.items():
        inner = joined.get(name)
        if isinstance(inner, str) and isinstance(value, Mapping):
            inner = {"method": inner}
        joined[name] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return joined


def renamed(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Old names of settings as new ones, each with a warning; a new name with a dot goes into nested settings."""
    table = FIELDS.get(kind.__name__, {})
    values: dict[str, Any] = {}
    for name, value in options.items():
        new, switch, chosen = table.get(name, name).partition("=")
        if switch and not value:
            continue
        if new != name:
            warn_renamed(f"{name} of {kind.__name__}", new + switch + chosen, stacklevel=5)
        if switch:
            value = chosen
        outer, _, inner = new.partition(".")
        if inner:
            values[outer] = {**values.get(outer, {}), inner: value}
        elif isinstance(value, Mapping) and isinstance(values.get(outer), Mapping):
            values[outer] = {**values[outer], **value}
        else:
            values[outer] = value
    return values


def read_config(path: str | Path) -> dict[str, Any]:
    """The table in a JSON or YAML file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no config file at {path}")
    text = read_text(path)
    try:
        held = _parse_yaml(text) if path.suffix in (".yaml", ".yml") else parse_json(text)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as settings: {error}") from error
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds no table of settings, but {type(held).__name__}")
    return held


def _parse_yaml(text: str) -> Any:
    """YAML in which 1e-4 is a number, as YAML 1.2 and everybody has it, and no setting is there twice."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # it has no types
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            once([(str(self.construct_object(key, deep=True)), place) for place, (key, _) in enumerate(node.value)])
            table: dict[Any, Any] = super().construct_mapping(node, deep)
            return table

    number = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return yaml.load(text, Loader)


def goes_on(resume: object, out: str | Path) -> bool:
    """Whether a run takes its settings from its folder."""
    return resume is True or (resume == "auto" and holds_settings(Path(out)))


def holds_settings(out: Path) -> bool:
    """Whether a folder holds those of a run."""
    return (out / "config.json").is_file()


def settings_of_run(out: Path) -> dict[str, Any]:
    """The settings that a run has written into its folder.

    Raises:
        FileNotFoundError: The folder holds no run.
    """
    path = out / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{out} holds no run to go on with (there is no {path.name}); leave out resume (--resume) to start one"
        )
    return {**read_config(path), "out": str(out), "overwrite": False}
