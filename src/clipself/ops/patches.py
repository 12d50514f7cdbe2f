"""Pictures in whole patches: the one place that rounds sides and says which side would do."""


def nearest_whole(side: float, patch: int) -> int:
    """The multiple of the patch that is nearest to a side, at least one patch."""
    return max(1, round(side / patch)) * patch


def fit_longest(size: tuple[int, int], *, longest: int, patch: int) -> tuple[int, int]:
    """Height and width in whole patches whose longest side is as asked for, as near to the aspect as they allow.

    Args:
        size: Height and width of the picture.
        longest: Longest side wanted, in pixels.
        patch: Side of a patch, in pixels.
    """
    scale = longest / max(size)
    return nearest_whole(size[0] * scale, patch), nearest_whole(size[1] * scale, patch)


def fit_shortest(size: tuple[int, int], *, shortest: int, longest: int, patch: int) -> tuple[int, int]:
    """Height and width in whole patches whose shortest side is as asked for, unless the longest passes its bound.

    Args:
        size: Height and width of the picture.
        shortest: Shortest side wanted, in pixels.
        longest: Bound of the longest side, in pixels, kept up to half a patch.
        patch: Side of a patch, in pixels.
    """
    scale = min(shortest / min(size), longest / max(size))
    return nearest_whole(size[0] * scale, patch), nearest_whole(size[1] * scale, patch)


def require_whole(side: int, patch: int, *, what: str, unit: str = "") -> None:
    """Refuses a side that cuts a patch.

    Args:
        side: In pixels.
        patch: Side of a patch, in pixels.
        what: The setting that says so, for the message.
        unit: What has this side, where it is no single patch.

    Raises:
        ValueError: It does; the message gives the nearest side that does not.
    """
    if side % patch or side < patch:
        near = nearest_whole(side, patch)
        unit = unit or f"the patch of {patch} pixels"
        raise ValueError(f"{what}={side} is no multiple of {unit}; try {near}")
