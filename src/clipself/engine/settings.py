"""What the settings of every training run can do; free of heavy imports so that `--help` is quick."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

NOT_COMPARED: Final = frozenset(
    (
        "out", "resume", "overwrite", "workers", "device", "tensorboard", "save_every", "evaluate_every",
        "evaluate_annotations", "evaluate_data", "evaluate_images", "evaluate_limit",
    )
)  # fmt: skip
"""Settings that may change between a run and its continuation."""


def plain_values(config: Any) -> dict[str, Any]:
    """A config as values that JSON knows."""
    return {name: _plain(value) for name, value in asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_plain(inner) for inner in value)
    return value


class RunSettings:
    """Base of a frozen dataclass of settings; holds no fields of its own."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return plain_values(self)

    def fingerprint(self, **more: Any) -> str:
        """A digest of everything that the weights depend on.

        Args:
            more: Facts that are not settings, such as the number of processes.
        """
        kept = {name: value for name, value in self.to_json().items() if name not in NOT_COMPARED}
        return hashlib.sha256(json.dumps({**kept, **more}, sort_keys=True).encode()).hexdigest()[:16]

    def check_counts(self, *names: str) -> None:
        """Refuses whole numbers below 1.

        Raises:
            ValueError: One of them is.
        """
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    def check_schedule(self, *, lr: float, epochs: float, max_steps: int | None) -> None:
        """Refuses runs without a step.

        Raises:
            ValueError: The rate or the length is not above 0.
        """
        if lr <= 0 or (max_steps is None and epochs <= 0) or (max_steps or 1) < 1:
            raise ValueError(f"lr={lr}, epochs={epochs}, max_steps={max_steps} must all be above 0")
