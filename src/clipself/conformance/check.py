"""One number of ours against one of theirs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """The largest difference under one key of a manifest.

    Attributes:
        key: The manifest's name of the quantity.
        difference: Largest absolute difference.
        tolerance: What the manifest allows at that place.
    """

    key: str
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; a NaN is not."""
        return bool(self.difference <= self.tolerance)


def compare(key: str, ours: ArrayLike, theirs: ArrayLike, *, atol: float, rtol: float = 0.0) -> Check:
    """Compares two arrays as `numpy.allclose` does, and keeps the element that is worst against its allowance.

    Args:
        key: The manifest's name of the quantity.
        ours: What this package computes.
        theirs: What the published implementation computed.
        atol: Absolute tolerance.
        rtol: Tolerance relative to theirs.
    """
    left, right = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if left.shape != right.shape and (left.size or right.size):  # lists of nothing have no shape in JSON
        return Check(key=f"{key} (shape {left.shape} for {right.shape})", difference=float("inf"), tolerance=atol)
    if not left.size:
        return Check(key=key, difference=0.0, tolerance=atol)
    difference = np.where(left == right, 0.0, np.abs(left - right)).ravel()  # equal infinities differ by nothing
    allowed = np.nan_to_num(atol + rtol * np.abs(right), posinf=atol).ravel()
    worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference - allowed)))
    return Check(key=key, difference=float(difference[worst]), tolerance=float(allowed[worst]))


def tolerance_of(manifest: Mapping[str, Any], *, default: float) -> tuple[float, float]:
    """Reads (atol, rtol) from a manifest's `tolerance` table or from the words of its `tolerances`."""
    table = manifest.get("tolerance")
    if isinstance(table, Mapping) and "atol" in table:
        return float(table["atol"]), float(table.get("rtol", 0.0))
    words = manifest.get("tolerances")
    if isinstance(words, Mapping):
        words = words.get("fp32_cpu", "")
    found = {kind: re.search(rf"{kind}\s+([0-9.]+(?:e-?\d+)?)", str(words)) for kind in ("atol", "rtol")}
    atol, rtol = found["atol"], found["rtol"]
    return (float(atol.group(1)) if atol else default), (float(rtol.group(1)) if rtol else 0.0)


def tolerance_at(manifest: Mapping[str, Any], key: str, *, default: float = 1e-5) -> tuple[float, float]:
    """Reads (atol, rtol) of one quantity: the first of a manifest's `tolerances` that fits, else its `tolerance`."""
    table = manifest.get("tolerances")
    for pattern, held in table.items() if isinstance(table, Mapping) else ():
        if isinstance(held, Mapping) and fnmatchcase(key, pattern):
            return float(held["atol"]), float(held.get("rtol", 0.0))
    return tolerance_of(manifest, default=default)
