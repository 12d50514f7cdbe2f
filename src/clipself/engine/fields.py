"""Values of settings made what their annotations say, or refused in a sentence."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from os import PathLike, fspath
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

F = TypeVar("F", bound=Callable[..., Any])

UNSET: Final = Path("")
"""Stands in a recipe for what every run must be given; compared by identity, since Path("") equals Path(".")."""


FLOAT32: Final = 3.4e38
"""About the largest number that a tensor of 32 bits holds."""


def fitted(function: F) -> F:
    """A function whose arguments are made to fit their annotations, as settings are; a misspelt one is named.

    Annotations of classes of ours, of pictures and of tensors are left to the function.
    """
    seen, hints = signature(function), get_type_hints(function)

    @wraps(function)
    def called(*given: Any, **options: Any) -> Any:
        for name in options:
            if name not in seen.parameters:
                near = get_close_matches(name, seen.parameters, n=1, cutoff=0.5)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"{function.__name__} takes no {name}{hint} It takes: {', '.join(seen.parameters)}")
        bound = seen.bind(*given, **options)
        for name, value in bound.arguments.items():
            if _can_be_fitted(hints[name]):
                bound.arguments[name] = fit(value, hints[name], name)
        return function(*bound.args, **bound.kwargs)

    return cast(F, called)


def _can_be_fitted(kind: Any) -> bool:
    return kind in (*PLAIN, NoneType, Ellipsis) or (bool(get_args(kind)) and all(map(_can_be_fitted, get_args(kind))))


def plain_values(settings: Any) -> dict[str, Any]:
    """A dataclass as values that JSON knows: text for paths."""
    return {name: _plain(value) for name, value in asdict(settings).items()}


def defaults_of(settings: Any) -> dict[str, Any]:
    """What a dataclass holds if nothing is said, as plain values; nested ones by the class that stands there."""
    found: dict[str, Any] = {}
    for field in fields(settings):
        if is_dataclass(value := getattr(settings, field.name)):
            found[field.name] = defaults_of(value)
        elif field.default is not MISSING:
            found[field.name] = _plain(field.default)
        elif field.default_factory is not MISSING:
            found[field.name] = _plain(field.default_factory())
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_plain(inner) for inner in value)
    return value


def kinds_of(settings: Any) -> Mapping[str, Any]:
    """Field -> annotation of a dataclass, without the marks of the command line."""
    if settings not in _KINDS:
        hints = get_type_hints(settings)
        _KINDS[settings] = {field.name: hints[field.name] for field in fields(settings) if field.init}
    return _KINDS[settings]


_KINDS: Final[dict[Any, Mapping[str, Any]]] = {}


def fit(value: Any, kind: Any, name: str) -> Any:
    """A value as its annotation wants it: text as a path, a list as a tuple, one path as a list, a table as settings.

    Args:
        value: What was given.
        kind: The annotation.
        name: Of the setting, for messages.

    Raises:
        ValueError: The value is of another type, or none of the choices.
    """
    if value is UNSET or kind is Any:
        return value
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _fit_union(value, inner, name)
    if origin is Literal:
        return _fit_choice(value, inner, name)
    if origin is tuple:
        return _fit_tuple(value, inner, name)
    if origin is Sequence:
        return _fit_tuple(value, (*inner, ...), name)
    if isinstance(origin, type) and issubclass(origin, Mapping) and not isinstance(value, Mapping):
        raise ValueError(f"{name}={value!r} is {_article(value)}, expected a table")
    maker: Any = getattr(kind, "from_table", None)  # of settings whose class depends on what they hold
    if maker and isinstance(value, Mapping | str):  # a name alone stands for a method with its defaults
        return maker({"method": value} if isinstance(value, str) else value)
    if is_dataclass(kind) and isinstance(value, Mapping):
        return build(kind, value, name=name)
    if kind in PLAIN:
        return PLAIN[kind](value, name)
    if isinstance(kind, type) and not isinstance(value, kind):
        raise ValueError(f"{name}={value!r} is {_article(value)}, expected {kind.__name__}")
    return value


def build(settings: Any, values: Mapping[str, Any], *, name: str = "") -> Any:
    """A dataclass of settings from a table.

    Raises:
        ValueError: There is no such setting, one is missing, or a value does not fit.
    """
    check_names(settings, values, prefix=f"{name}." if name else "")
    missing = [field.name for field in fields(settings) if field.name not in values and _has_no_default(field)]
    if missing:
        raise ValueError(f"{name or settings.__name__} needs {', '.join(f'{one}=' for one in missing)}")
    kinds = kinds_of(settings)
    prefix = f"{name}." if name else ""
    return settings(**{key: fit(value, kinds[key], f"{prefix}{key}") for key, value in values.items()})


def check_names(settings: type, values: Mapping[str, Any], *, prefix: str = "") -> None:
    """Refuses a misspelt setting and names the nearest right one.

    Raises:
        ValueError: The settings have no such field.
    """
    kinds = kinds_of(settings)
    for name in values:
        if name not in kinds:
            near = get_close_matches(name, kinds, n=1, cutoff=0.5)
            hint = f"; did you mean {prefix}{near[0]}?" if near else ""
            raise ValueError(f"there is no setting {prefix}{name}{hint} The settings: {', '.join(kinds)}")


def _has_no_default(field: Any) -> bool:
    return field.init and field.default is MISSING and field.default_factory is MISSING


def _fit_union(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not NoneType)
    for kind in kinds:
        if isinstance(kind, type) and type(value) is kind:
            return fit(value, kind, name)
    faults = []
    for kind in kinds:
        try:
            return fit(value, kind, name)
        except ValueError as fault:
            faults.append(fault)
    raise faults[0]


def _fit_choice(value: Any, choices: tuple[Any, ...], name: str) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    near = get_close_matches(str(value), [str(one) for one in choices], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name}={value!r} is none of {', '.join(map(repr, choices))}{hint}")


def _fit_tuple(value: Any, kinds: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    many = len(kinds) == 2 and kinds[1] is Ellipsis
    if isinstance(value, str | bytes | PathLike) or not hasattr(value, "__iter__"):
        if not many:
            raise ValueError(f"{name}={value!r} is one value, expected {len(kinds)}")
        return (fit(value, kinds[0], name),)  # one path where a list of them may stand
    if isinstance(value, set | frozenset):
        raise ValueError(f"{name} is a {type(value).__name__}, which has no order; pass a list")
    held = list(value)
    if not many and len(held) != len(kinds):
        raise ValueError(f"{name}={value!r} holds {len(held)} values, expected {len(kinds)}")
    each = [kinds[0]] * len(held) if many else kinds
    return tuple(fit(one, kind, name) for one, kind in zip(held, each, strict=True))


def _fit_path(value: Any, name: str) -> Path:
    if isinstance(value, str | PathLike):
        return Path(fspath(value))
    raise ValueError(f"{name}={value!r} is {_article(value)}, expected a path")


def _fit_text(value: Any, name: str) -> str:
    if isinstance(value, str | PathLike):
        return str(fspath(value))
    raise ValueError(f"{name}={value!r} is {_article(value)}, expected text")


def _fit_flag(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"{name}={value!r} is {_article(value)}, expected True or False")


def _fit_int(value: Any, name: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{name}={value!r} is {_article(value)}, expected a whole number")
    if not -(2**63) <= (whole := operator.index(value)) < 2**63:
        raise ValueError(f"{name}={whole} must be below 2**63, and its negative too")
    return whole


def _fit_float(value: Any, name: str) -> float:
    if not isinstance(value, bool | str) and hasattr(value, "__float__"):
        try:
            number = float(value)
        except OverflowError:
            number = FLOAT32 * 2
        if math.isfinite(number) and abs(number) > FLOAT32:
            raise ValueError(f"{name}={value} must be below {FLOAT32:.1e}, the largest number of 32 bits")
        return number
    raise ValueError(f"{name}={value!r} is {_article(value)}, expected a number")


def _article(value: Any) -> str:
    words = {str: "text", bool: "True or False", float: "a fraction", list: "a list", tuple: "a list", NoneType: "None"}
    return words.get(type(value), f"of type {type(value).__name__}")


PLAIN: Final[Mapping[Any, Callable[[Any, str], Any]]] = {
    Path: _fit_path, str: _fit_text, bool: _fit_flag, int: _fit_int, float: _fit_float,
}  # fmt: skip
"""Annotation -> how a value is made to fit it."""
