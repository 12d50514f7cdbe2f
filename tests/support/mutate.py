"""Faults of files by a seed: JSON with a value changed, weights with a byte, a tensor or a number spoiled."""

import copy
import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import torch
from safetensors.torch import load, save

Place = tuple[Any, ...]

VALUES: tuple[Any, ...] = (
    None, "x", "", "\u202e\x00", [], [[[]]], {}, True, -1, 0, 10**6, 10**18, 1e300, float("nan"), float("inf"), 0.5,
    "1", "../../../../etc/passwd", "/etc/passwd", "hf_hub:some/thing", [0] * 10_000,
)  # fmt: skip
"""What stands where something else should."""


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Paths to every key and to the first items of every list."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def mutated_json(value: Any, rng: random.Random) -> tuple[str, bytes]:
    """(what was done, the file) of one fault: a value changed, taken away, or the text itself broken."""
    made, at = copy.deepcopy(value), rng.choice(list(places(value)))
    here = made
    for part in at[:-1]:
        here = here[part]
    kind, text = rng.random(), json.dumps(value).encode()
    if kind < 0.1:
        cut = rng.randrange(len(text))
        return f"cut at {cut}", text[:cut]
    if kind < 0.15:
        return "UTF-16", json.dumps(value).encode("utf-16")
    if kind < 0.3:
        del here[at[-1]]
        return f"without {at}", json.dumps(made).encode()
    here[at[-1]] = new = rng.choice(VALUES)
    return f"{at} is {str(new)[:30]!r}", json.dumps(made).encode("utf-8", "surrogatepass")


def mutated_weights(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """(what was done, the file) of one fault of a safetensors file."""
    length = struct.unpack("<Q", data[:8])[0]
    state = load(data)
    name = rng.choice([name for name in state if state[name].is_floating_point()])
    tensor = state[name]

    def replaced(new: torch.Tensor) -> bytes:
        return save({**state, name: new.contiguous()})

    def flipped() -> bytes:
        broken = bytearray(data)
        broken[rng.randrange(8 + length)] = rng.randrange(256)
        return bytes(broken)

    faults: dict[str, Callable[[], bytes]] = {
        "cut": lambda: data[: rng.randrange(len(data))],
        "another byte in the header": flipped,
        "trailing bytes": lambda: data + b"x",
        f"{name} is NaN": lambda: replaced(torch.full_like(tensor, float("nan"))),
        f"{name} is infinite": lambda: replaced(tensor + float("inf")),
        f"{name} is whole numbers": lambda: replaced(tensor.int()),
        f"{name} is half": lambda: replaced(tensor.half()),
        f"{name} is turned": lambda: replaced(tensor.flatten().reshape(tensor.shape[::-1])),
        f"{name} has a row more": lambda: replaced(torch.cat([tensor[None].flatten(), tensor.flatten()[:1]])),
        f"{name} is missing": lambda: save({key: value for key, value in state.items() if key != name}),
        f"{name} is there twice": lambda: save({**state, f"{name}x": tensor.clone()}),
        "no tensors": lambda: save({}),
        "all behind a prefix": lambda: save({f"module.{key}": value for key, value in state.items()}),
    }
    what = rng.choice(list(faults))
    return what, faults[what]()
