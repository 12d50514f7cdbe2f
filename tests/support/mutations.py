"""Faults of JSON files, drawn from a seed: another value anywhere, a key that is gone, a row that stands twice."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

VALUES: tuple[Any, ...] = (
    None, "x", "", "\u202e\U0001f600\0", [], [[[[]]]], {}, True, -1, 0, 10**18, 1e300, float("nan"), float("inf"), 0.5,
    "1", "../../../etc/passwd", "/etc/passwd", [0] * 3000, [1, 2, 3, 4], [[4, 4, 34, 34]], {"x": 1, "y": 2},
    {"size": [10**6, 10**6], "counts": "zzzz"}, {"size": [60, 80], "counts": []}, 10**400,
)  # fmt: skip


def places(value: Any, *, most: int = 2, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every key and to the first items of every list."""
    if at:
        yield at
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], most=most, at=(*at, key))
    elif isinstance(value, list):
        for index in range(min(most, len(value))):
            yield from places(value[index], most=most, at=(*at, index))


def mutate(value: Any, rng: random.Random, *, faults: int = 1) -> tuple[str, Any]:
    """A copy with some faults, and what they are."""
    made, said = copy.deepcopy(value), []
    for _ in range(faults):
        at = rng.choice(list(places(made)))
        here = made
        for part in at[:-1]:
            here = here[part]
        how = rng.choice(("change", "change", "change", "drop", "double"))
        if how == "drop":
            del here[at[-1]]
        elif how == "double" and isinstance(here, list):
            here.insert(at[-1], copy.deepcopy(here[at[-1]]))
        else:
            here[at[-1]] = copy.deepcopy(rng.choice(VALUES))
        said.append(f"{how} {'.'.join(map(str, at))} -> {str(here[at[-1]])[:40] if how == 'change' else ''}")
        if not isinstance(made, list | dict) or not made:
            break
    return "; ".join(said), made


def broken_texts(value: Any) -> Iterator[tuple[str, bytes]]:
    """Faults of a file as a whole."""
    text = json.dumps(value)
    data = text.encode()
    yield "empty file", b""
    yield "cut in the middle", data[: len(data) // 2]
    yield "latin-1", json.dumps([value, "\xe9"], ensure_ascii=False).encode("latin-1")
    yield "zeros", bytes(len(data))
    yield "null", b"null"
    yield "a number", b"7"
    yield "an empty object", b"{}"
    yield "a list of the file", b"[" + data + b"]"
    yield "deep nesting", b"[" * 100_000 + b"]" * 100_000
    yield "trailing garbage", data + b"}{"
    yield "huge integer", b"[" + b"1" * 5000 + b"," + data + b"]"
    yield "HTML page", b"<!DOCTYPE html><html>404</html>"
