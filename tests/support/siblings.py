"""Manifests like the golden ones with other constants, whose numbers come from loops written here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipself.conformance.report import ParityReport
from clipself.conformance.run import check_manifest

GOLDEN = Path(__file__).parents[1] / "golden"
Array = NDArray[Any]


def golden(name: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """A golden manifest and its arrays."""
    with np.load(GOLDEN / f"{name}.npz") as held:
        return json.loads((GOLDEN / f"{name}.json").read_text()), dict(held)


def check(folder: Path, manifest: Mapping[str, Any], arrays: Mapping[str, Array]) -> ParityReport:
    """The report of a manifest that lies nowhere yet."""
    listed = {name: {"shape": list(np.shape(value))} for name, value in arrays.items()}
    own = {name: value for name, value in manifest.items() if name not in ("file", "sha256")}
    (folder / "sibling.json").write_text(json.dumps({**own, "arrays": listed}))
    np.savez(folder / "sibling.npz", **dict(arrays))  # type: ignore[arg-type]
    return check_manifest(folder / "sibling.json")


def passes(folder: Path, manifest: Mapping[str, Any], arrays: Mapping[str, Array]) -> ParityReport:
    """The report, which must pass."""
    report = check(folder, manifest, arrays)
    assert report.passed, report.to_table(most=3)
    return report


def overlap(one: Array, other: Array, eps: float = 0.0) -> float:
    """Generalised IoU of two boxes `xyxy`; `eps` is added to union and hull."""
    wide, high = (min(one[2 + i], other[2 + i]) - max(one[i], other[i]) for i in (0, 1))
    inside = max(wide, 0.0) * max(high, 0.0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - inside
    hull = (max(one[2], other[2]) - min(one[0], other[0])) * (max(one[3], other[3]) - min(one[1], other[1]))
    return float(inside / (union + eps) - (hull - union) / (hull + eps))


def corners(box: Array) -> Array:
    """`cxcywh` to `xyxy`."""
    return np.array([box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2])


def boxes(generator: np.random.Generator, *shape: int) -> Array:
    """Boxes `cxcywh` in [0, 1]."""
    sizes = generator.random((*shape, 2)) * 0.5 + 0.05
    centres = sizes / 2 + generator.random((*shape, 2)) * (1 - sizes)
    return np.concatenate([centres, sizes], axis=-1).astype(np.float32)
