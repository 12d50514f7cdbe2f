"""Cards: JSON tables that lie beside weights, and settings read back from them field by field."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from clipself.files import read_json

T = TypeVar("T")


def read_card(path: str | Path) -> dict[str, Any]:
    """Reads a JSON file that holds a table.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not JSON, or holds something else than a table.
    """
    held = read_json(path, what="card")
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds a {type(held).__name__}, expected a table of settings; put the card back")
    return held


def read_settings(kind: type[T], held: Any, *, where: str, forget: Iterable[str] = ()) -> T:
    """Makes a settings dataclass from what JSON kept of it; nested dataclasses, tuples and tables included.

    Fields that the table lacks take their defaults, so that cards of older versions are read.

    Args:
        kind: The dataclass.
        held: Table of its fields.
        where: File and key, for messages.
        forget: Fields of earlier versions that are passed over where the dataclass has none of that name.

    Raises:
        ValueError: It is no table, a field is unknown, missing or of another type, or the values exclude each other.
    """
    if not isinstance(held, Mapping):
        raise ValueError(f"{where} is {_show(held)}, expected the table of {kind.__name__}")
    assert is_dataclass(kind)
    known = {field.name: field for field in fields(kind)}
    held = {name: value for name, value in held.items() if name in known or name not in set(forget)}
    for name in held:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; the file was written by another version"
            raise ValueError(f"{where} has the unknown setting {name!r}{hint}")
    needed = [name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING]
    missing = sorted(set(needed) - held.keys())
    if missing:
        raise ValueError(f"{where} lacks {missing[0]!r}; was the card edited?")
    types = get_type_hints(kind)
    given = {name: _value(types[name], value, where=f"{where}: {name}") for name, value in held.items()}
    for name in [name for name in given if not known[name].init]:
        if given.pop(name) != known[name].default:
            raise ValueError(f"{where}: {name} is {_show(held[name])}, expected {known[name].default!r}")
    try:
        return kind(**given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _value(kind: Any, held: Any, *, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _one_of(inner, held, where=where)
    if origin is Literal:
        if not any(held == one and type(held) is type(one) for one in inner):
            raise ValueError(f"{where} is {_show(held)}, expected one of {list(inner)}")
        return held
    if origin is tuple or origin is Sequence or origin is list:
        return _items(inner, held, where=where)
    if origin is dict or origin is Mapping:
        if not isinstance(held, Mapping):
            raise ValueError(f"{where} is {_show(held)}, expected a table")
        key_kind, value_kind = inner
        return {
            _key(key_kind, key, where=where): _value(value_kind, value, where=f"{where}: {key}")
            for key, value in held.items()
        }
    if isinstance(kind, type) and is_dataclass(kind):
        return read_settings(kind, held, where=where)
    return _plain(kind, held, where=where)


def _one_of(kinds: Sequence[Any], held: Any, *, where: str) -> Any:
    if held is None and NoneType in kinds:
        return None
    faults = []
    for kind in kinds:
        try:
            if kind is not NoneType:
                return _value(kind, held, where=where)
        except ValueError as fault:
            faults.append(fault)
    raise faults[0]


def _items(inner: Sequence[Any], held: Any, *, where: str) -> tuple[Any, ...]:
    if not isinstance(held, list | tuple):
        raise ValueError(f"{where} is {_show(held)}, expected a list")
    open_ended = len(inner) == 1 or Ellipsis in inner
    if not open_ended and len(held) != len(inner):
        raise ValueError(f"{where} has {len(held)} values, expected {len(inner)}")
    kinds = [inner[0]] * len(held) if open_ended else inner
    return tuple(
        _value(kind, value, where=f"{where}[{place}]")
        for place, (kind, value) in enumerate(zip(kinds, held, strict=True))
    )


def _key(kind: Any, key: str, *, where: str) -> Any:
    if kind is not int:
        return key
    if not key.lstrip("-").isdecimal():
        raise ValueError(f"{where} has the key {key!r}, expected a whole number")
    return int(key)


def _plain(kind: Any, held: Any, *, where: str) -> Any:
    if kind is Any:
        return held
    if kind is Path and isinstance(held, str):
        return Path(held)
    if kind is float and isinstance(held, int | float) and not isinstance(held, bool):
        if abs(held) <= 1e30 and math.isfinite(held):
            return float(held)
    elif kind is int and isinstance(held, int) and not isinstance(held, bool):
        if abs(held) < 2**31:
            return held
    elif kind in (str, bool) and isinstance(held, kind):
        return held
    word = {int: "a whole number below 2^31", float: "a finite number", str: "a text", bool: "true or false"}
    raise ValueError(f"{where} is {_show(held)}, expected {word.get(kind, kind)}")


def _show(held: Any) -> str:
    text = repr(held)
    return text if len(text) <= 60 else f"{text[:57]}..."
