"""One number of ours against one of theirs."""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from clipself.conformance.told import thin, words_of


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


def unchecked(key: str) -> Check:
    """The failure of a quantity that is stored and that this version does not compute."""
    return Check(key=f"{key} is not checked by this version", difference=float("inf"), tolerance=0.0)


def tolerance_of(manifest: Mapping[str, Any], *, default: float) -> tuple[float, float]:
    """Reads (atol, rtol) from a manifest's `tolerance` table or from the words of its `tolerances`."""
    table = manifest.get("tolerance")
    if isinstance(table, Mapping) and "atol" in table:
        return float(table["atol"]), float(table.get("rtol", 0.0))
    words = manifest.get("tolerances")
    if isinstance(words, Mapping):
        words = words.get("fp32_cpu", words.get("default", ""))
    return _read(words, (default, 0.0)) or (default, 0.0)


def tolerance_at(manifest: Mapping[str, Any], key: str, *, default: float = 1e-5) -> tuple[float, float]:
    """Reads (atol, rtol) of one quantity: what a manifest states of it, else what holds for all.

    A row of `tolerances` or of `tolerance` may name the quantity, a pattern of it ("*_loss"), what it is one of
    ("det_boxes" of "det0_boxes", "sem_seg" of "sem_seg_0", "grad_norms" of "grad_norms/NAME"); the nearest holds.
    """
    general = tolerance_of(manifest, default=default)
    rows: dict[str, Any] = {}
    for table in (manifest.get("tolerances"), manifest.get("tolerance")):
        rows |= {name: row for name, row in table.items() if name not in rows} if isinstance(table, Mapping) else {}
    alike = [name for name in rows if fnmatchcase(key, name)]
    for name in (key, *alike, *stems_of(key), key.split("/")[0]):
        found = _read(rows[name], general) if name in rows else None
        if found is not None:
            return found
    return general


def stems_of(key: str) -> tuple[str, str]:
    """What numbered arrays have in common: "det0_boxes" is one of "det_boxes", "sem_seg_0" one of "sem_seg"."""
    return re.sub(r"\d+", "", key), re.sub(r"_\d+$", "", key)


def _read(told: object, general: tuple[float, float]) -> tuple[float, float] | None:
    """A row: a table, a number, or words; None where words tell no tolerance."""
    if isinstance(told, Mapping):
        return float(told.get("atol", general[0])), float(told.get("rtol", 0.0))
    if isinstance(told, (int, float)):
        return float(told), 0.0
    words = str(told)
    number = r"([0-9.]+(?:e[+-]?\d+)?)"
    found = {kind: re.search(rf"{kind}\s+{number}", words) for kind in ("atol", "rtol")}
    atol, rtol = found["atol"], found["rtol"]
    if atol or rtol:
        return (float(atol.group(1)) if atol else general[0]), (float(rtol.group(1)) if rtol else 0.0)
    if words.startswith("exact"):
        return 0.0, 0.0
    alone = re.fullmatch(number, words.strip())
    return (float(alone.group(1)), 0.0) if alone else None


def compare_told(
    manifest: Mapping[str, Any], key: str, ours: ArrayLike, theirs: ArrayLike, *, default: float, kind: str = ""
) -> Check:
    """Compares at the tolerance that a manifest states of the quantity; whole numbers must be equal.

    Args:
        manifest: Which tells the tolerances.
        key: Its name of the quantity.
        ours: What this package computes.
        theirs: What the published implementation computed.
        default: Absolute tolerance where the manifest tells none.
        kind: Name of the tolerance where it is not that of the quantity.
    """
    atol, rtol = tolerance_at(manifest, kind or key, default=default)
    if isinstance(theirs, np.ndarray) and theirs.dtype.kind in "iub":
        atol = rtol = 0.0
    return compare(key, ours, theirs, atol=atol, rtol=rtol)


def compare_stored(
    manifest: Mapping[str, Any],
    arrays: Mapping[str, Any],
    ours: Mapping[str, Tensor],
    *,
    default: float,
    given: Container[str] = (),
) -> list[Check]:
    """Every stored array that is no input, with the elements that are stored of it; one that is not ours fails.

    Args:
        manifest: Which tells tolerances, and in words what is stored.
        arrays: What is stored.
        ours: What this package computes.
        default: Absolute tolerance where the manifest tells none.
        given: Names of the inputs.
    """
    return [
        compare_told(
            manifest, key, thin(ours[key].detach(), theirs.shape, words_of(manifest, key)).numpy(), theirs,
            default=default,
        )
        if key in ours
        else unchecked(key)
        for key, theirs in arrays.items()
        if key not in given
    ]  # fmt: skip
