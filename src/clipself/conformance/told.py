"""Constants that a manifest tells: as a number, or in the words beside one."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def number_in(words: object, pattern: str, *, default: float | None = None) -> float:
    """The number that words tell.

    Args:
        words: A sentence of the manifest, or any part of it, which is searched as it is printed.
        pattern: Regular expression with one group.
        default: Taken where the words tell none.

    Raises:
        ValueError: They tell none and there is no default.
    """
    found = re.search(pattern, str(words))
    if found is not None:
        return float(found.group(1))
    if default is None:
        raise ValueError(f"the manifest says {str(words)!r}, in which {pattern!r} finds no number")
    return default


def words_of(manifest: Mapping[str, Any], key: str) -> str:
    """What a manifest says of an array; "layer0_class" is told by "layer_class", and that by what it repeats."""
    outputs = manifest.get("outputs", {})
    said = [name for name in (key, re.sub(r"\d+", "", key), re.sub(r"_\d+$", "", key)) if name in outputs]
    if not said:
        return ""
    names = list(outputs)
    for name in reversed(names[: names.index(said[0]) + 1]):
        if "same slicing" not in str(outputs[name]):
            return str(outputs[name])
    return ""


def thin(ours: Tensor, shape: tuple[int, ...], words: str = "") -> Tensor:
    """The elements that a manifest stores of an array.

    Args:
        ours: The whole.
        shape: What is stored.
        words: What the manifest says of it: "[:, ::8, :, ::3, ::3]" or "[..., ::3, ::3]"; "every 4 channels",
            "every 4th channel" or "channels ::4", on the axis whose length differs; "::2 in both directions" or "every
            2nd row and column", on the last two axes; where it says nothing, every n-th element, n told by both.
    """
    sliced = re.search(r"\[(\s*(?::|\.{3})[:.,\d\s]*)\]", words)
    channels = re.search(r"every (\d+)(?:st|nd|rd|th)? channel|channels ::(\d+)", words)
    both = re.search(r"::(\d+) in both directions|every (\d+)(?:st|nd|rd|th)? row and column", words)
    if tuple(ours.shape) == tuple(shape):
        return ours.contiguous()
    if sliced is not None:
        return ours[_slices(sliced.group(1), ours.ndim)].contiguous()
    if channels is not None:
        axis = next((place for place, pair in enumerate(zip(ours.shape, shape, strict=False)) if pair[0] != pair[1]), 1)
        steps = [1] * axis + [int(channels.group(1) or channels.group(2))]
    elif both is not None:
        steps = [1] * (ours.ndim - 2) + [int(both.group(1) or both.group(2))] * 2
    elif ours.ndim != len(shape):
        return ours.contiguous()  # the comparison tells both shapes
    else:
        steps = [-(-length // stored) if stored else 1 for length, stored in zip(ours.shape, shape, strict=True)]
    return ours[tuple(slice(None, None, step) for step in steps)].contiguous()


def _slices(words: str, axes: int) -> tuple[slice, ...]:
    """Of "..., :8, ::3"; "..." stands for the axes that are not told."""
    parts = [part.strip() for part in words.split(",")]
    if "..." in parts:
        place = parts.index("...")
        parts[place : place + 1] = [":"] * (axes - len(parts) + 1)
    return tuple(slice(*(int(one) if one.strip() else None for one in part.split(":"))) for part in parts)


def whole_patches(images_B3HW: Tensor, patch: int) -> Tensor:
    """What a patch embedding of the published towers sees of images: pixels beyond the last whole patch are not."""
    rows, cols = (side // patch * patch for side in images_B3HW.shape[-2:])
    return images_B3HW[..., :rows, :cols]
