"""Tables in files, whose keys are each there once: of two the last would count without a word."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

CHECKED: Final = 2**24
"""Characters of JSON up to which keys that stand twice are looked for: beyond, the look would take seconds."""


class KeyTwice(ValueError):
    """A key stands twice in one table, with different values."""


def once(pairs: Sequence[tuple[Any, Any]], hook: Callable[[dict[Any, Any]], Any] | None = None) -> Any:
    """A table of pairs, or what a hook makes of it; what is there twice and alike is there once.

    Raises:
        KeyTwice: Two values of one key differ.
    """
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next((key for key, value in pairs if table[key] is not value and table[key] != value), None)
        if twice is not None:
            raise KeyTwice(f"{twice!r} is set twice; keep one of them")
    return table if hook is None else hook(table)


def parse_json(text: str, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """What a text of JSON holds.

    Args:
        text: All of it.
        hook: Sees each object as soon as it is parsed and gives what stands in its place.

    Raises:
        ValueError: It is no JSON; as `KeyTwice` where a text of usual length says two things under one key.
    """
    if len(text) > CHECKED:
        return json.loads(text, object_hook=hook)
    return json.loads(text, object_pairs_hook=partial(once, hook=hook))
